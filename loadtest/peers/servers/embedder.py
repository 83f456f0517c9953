"""Makes the FastAPI application around a library that embeds texts and has no server of its own."""

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from pydantic import BaseModel


class Text(BaseModel):
    text: str


def create_app(embed: Callable[[str], Sequence[float]]) -> FastAPI:
    app = FastAPI()

    @app.post("/embed")
    async def embedding(body: Text) -> dict[str, Sequence[float]]:
        return {"embedding": embed(body.text)}

    return app
