from models.tasks.base import Usage
from service.telemetry.stages import add_up_usage


def test_usage_adds_up() -> None:
    usages = [Usage(10, 12, 2, truncated=False), Usage(5, 4, 1, truncated=True)]
    assert add_up_usage(usages) == Usage(15, 16, 3, truncated=True)
