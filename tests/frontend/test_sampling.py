"""What the sampling controls start from."""

from byollm.settings import PageSettings
from frontend.sampling import NEUTRAL, Sampling, start


def test_settings_come_before_the_model_and_the_model_before_nothing() -> None:
    settings = PageSettings(temperature=0, top_k=7)
    assert start(settings, {"temperature": 0.6, "top_p": 0.9}) == NEUTRAL | {
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 7,
    }


def test_what_is_no_number_is_passed_over() -> None:
    assert start(PageSettings(), {"temperature": "hot", "top_p": None, "best": 1}) == NEUTRAL


def test_what_nobody_chose_is_left_to_a_server_that_does_not_tell_its_defaults() -> None:
    drawn = Sampling(1, 0.8, 64, 0, 0, None, 1, 0, 0)
    assert drawn.fields() == {"max_tokens": 64, "top_p": 0.8}
    assert drawn.fields({"temperature", "top_k"}) == {
        "max_tokens": 64,
        "temperature": 1,
        "top_p": 0.8,
        "top_k": 0,
    }
