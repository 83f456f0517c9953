from service.app import TASKS
from service.compat.forms import FORMS


def test_only_other_people_s_routes_have_other_forms() -> None:
    assert {path for path in TASKS if not path.startswith(tuple(FORMS))} == {
        "/qa",
        "/classify",
        "/similarity",
        "/embed",
    }
