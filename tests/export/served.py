"""A bundle as the service runs it: by the products of this CPU, which saturate on some, as in any other program."""

from models.tasks.base import AnyTask
from models.tasks.build import build_task
from models.tasks.bundle import Bundle
from models.tasks.session import OnnxSession, graph_outputs, open_graph


def served(bundle: Bundle) -> tuple[OnnxSession, AnyTask]:
    graph = open_graph(bundle, threads=1)
    task = build_task(bundle, graph_outputs(graph))
    return OnnxSession(bundle, graph, task.output_names), task
