"""What the sampling controls start from."""

from byollm.settings import PageSettings
from frontend.sampling import NEUTRAL, start


def test_settings_come_before_the_model_and_the_model_before_nothing() -> None:
    settings = PageSettings(temperature=0, top_k=7)
    assert start(settings, {"temperature": 0.6, "top_p": 0.9}) == NEUTRAL | {
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 7,
    }


def test_what_is_no_number_is_passed_over() -> None:
    assert start(PageSettings(), {"temperature": "hot", "top_p": None, "best": 1}) == NEUTRAL
