"""Measures the form of the code: cycles, folders, arrows, the way of a request, homes of a task."""

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from models.tasks.build import SPECS

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "export", "service", "loadtest")
KERNELS = ("qa", "classification", "similarity", "rerank", "entities")  # modules
TASK_HOMES = {f"models/{folder}/{name}.py" for folder in ("tasks", "finetune") for name in KERNELS} | {
    "service/routes.py"
}
OPTION_HOMES = ("models/tasks/options.py",)
TRACE = Path(__file__).with_name("trace_request.py")

Graph = Mapping[str, set[str]]
"""What each node leads to."""


@dataclass(frozen=True, slots=True)
class Form:
    """The measures of a tree of source files; each list names what breaks its rule."""

    cycles: list[str]
    largest_folder: tuple[str, int]  # and how many modules it holds
    upward_arrows: list[str]
    task_names: list[str]
    namespaces: list[str]


@dataclass(frozen=True, slots=True)
class Way:
    """What one warm `/qa` request visits until its body is written: files of service/ and models/, by the calls made.

    A stay is a run of calls into one file; it ends where the next call enters another.
    """

    files: int
    stays: int
    calls: int
    sequence: list[str]


def form(root: Path = ROOT) -> Form:
    """Measures the packages under `root`; tests are not among them."""
    graph = imports(root)
    return Form(
        cycles=cycles(graph),
        largest_folder=max(folder_sizes(graph).items(), key=lambda item: item[1]),
        upward_arrows=upward_arrows(graph),
        task_names=task_names(root, SPECS),
        namespaces=namespaces(root),
    )


def sources(root: Path) -> list[Path]:
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py") if path.name != "__init__.py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(root: Path) -> Graph:
    """The modules that each module imports, wherever in it, under TYPE_CHECKING too. Names are dotted."""
    modules = {dotted(path.relative_to(root)): path for path in sources(root)}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets: set[str] = set()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                targets |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        graph[name] = (targets & modules.keys()) - {name}
    return graph


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def cycles(graph: Graph) -> list[str]:
    """One circle of imports, if there is any."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def folder_sizes(graph: Graph) -> dict[str, int]:
    """How many modules each folder holds itself."""
    folders = [name.rpartition(".")[0].replace(".", "/") for name in graph]
    return {folder: folders.count(folder) for folder in folders}


def upward_arrows(graph: Graph) -> list[str]:
    """Where the modules and the folders of one folder import each other in a circle, a folder seen as one node.

    Arrows that all run one way can be drawn from top to bottom; a circle is an arrow from a lower folder back up.
    """
    folders = {""} | {".".join(name.split(".")[:depth]) for name in graph for depth in range(1, name.count(".") + 1)}
    return [f"{folder or 'top'}: {circle}" for folder in sorted(folders) for circle in cycles(rooms(graph, folder))]


def rooms(graph: Graph, folder: str) -> dict[str, set[str]]:
    """The graph within a folder, with everything below a subfolder as one node."""
    prefix = f"{folder}." if folder else ""

    def room(name: str) -> str | None:
        return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else None

    collapsed: dict[str, set[str]] = {}
    for name, targets in graph.items():
        if (source := room(name)) is not None:
            collapsed.setdefault(source, set()).update({to for target in targets if (to := room(target))} - {source})
    return collapsed


def task_names(root: Path, names: Collection[str]) -> list[str]:
    """Where a task is named outside its homes under models/, export/ and service/ (loadtest reads the routes)."""
    return [
        f"{place}:{line} {name}"
        for path in sources(root)
        if (place := path.relative_to(root).as_posix()) not in TASK_HOMES and not place.startswith("loadtest/")
        for line, name in mentions(tree_of(path), names)
    ]


def mentions(tree: ast.AST, names: Collection[str]) -> list[tuple[int, str]]:
    """Line and name of each string or identifier that is one of the names. A module's name in an import is neither, and
    a field of a class is a part of a body.
    """
    fields = {id(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    found = []
    for node in ast.walk(tree):
        match node:
            case (
                ast.Constant(value=str(name))
                | ast.Name(id=name)
                | ast.arg(arg=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.keyword(arg=str(name))
            ) if name in names and id(node) not in fields:
                found.append((node.lineno, name))
    return sorted(found)


def namespaces(root: Path) -> list[str]:
    """Functions outside one file that take an untyped `argparse.Namespace`."""
    return [
        f"{path.relative_to(root).as_posix()}:{node.lineno} {node.name}"
        for path in sources(root)
        if path.relative_to(root).as_posix() not in OPTION_HOMES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("Namespace" in ast.unparse(argument.annotation) for argument in parameters(node) if argument.annotation)
    ]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.arg]:
    arguments = function.args
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)


def way_of_a_request() -> Way:
    """Serves the default bundles in a child process and traces warm `/qa` requests there.

    The shortest of them counts: the server's clock ticks in some, ten times a second, which is not their doing.
    """
    output = subprocess.run([sys.executable, str(TRACE)], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    calls: list[str] = min(json.loads(output), key=len)
    sequence = [path for path, before in zip(calls, [None, *calls], strict=False) if path != before]
    return Way(files=len(set(calls)), stays=len(sequence), calls=len(calls), sequence=sequence)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measures as JSON, with the way of a request."""
    parser = argparse.ArgumentParser(prog="python -m scripts.form", description=__doc__)
    parser.parse_args(argv)
    sys.stdout.write(json.dumps(asdict(form()) | {"request": asdict(way_of_a_request())}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
