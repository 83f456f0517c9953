"""What metrics and log lines have counted."""

from loadtest.torture.state import by_status, requests_counted, requests_logged

METRICS = """# TYPE halfdepth_requests_total counter
halfdepth_requests_total{model="a",status="200",task="qa"} 3.0
halfdepth_requests_total{model="b",status="200",task="qa"} 2.0
halfdepth_requests_total{model="",status="503",task="embed"} 1.0
halfdepth_in_flight 0.0
"""
LINES = [
    '{"logger": "service.access", "message": "request", "route": "/qa", "status": 200, "task": "qa"}\n',
    '{"logger": "service.access", "message": "request", "route": "/info", "status": 200}\n',
    '{"logger": "service", "message": "draining"}\n',
    "memory allocation failed\n",
]


def test_the_metrics_of_a_task_are_added_up_over_its_models() -> None:
    counted = requests_counted(METRICS)
    assert counted == {("qa", 200): 5, ("embed", 503): 1}
    assert by_status(counted) == {200: 5, 503: 1}


def test_log_lines_are_counted_by_route_and_by_task() -> None:
    assert requests_logged(LINES) == ({("/qa", 200): 1, ("/info", 200): 1}, {("qa", 200): 1})
