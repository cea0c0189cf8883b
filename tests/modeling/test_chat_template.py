import datetime
from typing import Any

import pytest

from byollm.modeling.chat_template import ChatTemplate
from byollm.modeling.errors import TokenizerError

CHAT = [{"role": "user", "content": "hi"}]


def render(source: str, messages: Any = CHAT, **special: str) -> str:
    return ChatTemplate(source, special).render(messages, add_generation_prompt=True)


def test_special_tokens_are_variables() -> None:
    assert render("{{ bos_token }}{{ messages[0].content }}", bos_token="<s>") == "<s>hi"


def test_tools_and_documents_are_none_as_in_transformers() -> None:
    assert render("{{ tools is none and documents is none and add_generation_prompt }}") == "True"


def test_blocks_leave_no_white_space() -> None:
    assert render("{% for m in messages %}\n    {% if true %}\nx\n    {% endif %}\n{% endfor %}\n") == "x\n"


def test_loops_may_break() -> None:
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"


def test_json_keeps_letters_and_markup() -> None:
    assert render("{{ messages | tojson }}", [{"content": "<é'>"}]) == '[{"content": "<é\'>"}]'
    assert render("{{ {'b': 1, 'a': [2]} | tojson(indent=1) }}") == '{\n "b": 1,\n "a": [\n  2\n ]\n}'


def test_the_date_can_be_asked_for() -> None:
    assert int(render("{{ strftime_now('%Y') }}")) >= datetime.date(2025, 1, 1).year


def test_marks_of_answers_are_left_out() -> None:
    assert render("a{% generation %}{{ messages[0].content }}{% endgeneration %}b") == "ahib"


def test_a_refusal_of_the_template_is_told() -> None:
    with pytest.raises(TokenizerError, match="refuses these messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].role.upper().__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ range(99999999) | list }}",
        "{{ '%s' | format(messages) * 3 + 1 }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[0].nothing.more }}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_a_template_may_not_or_cannot_do_is_an_error(source: str) -> None:
    with pytest.raises(TokenizerError, match="refuses these messages"):
        render(source)


@pytest.mark.parametrize("source", ["{% if %}", "{{ messages", "{% nonsense %}"])
def test_invalid_templates_are_refused(source: str) -> None:
    with pytest.raises(TokenizerError, match="not valid Jinja"):
        ChatTemplate(source, {})
