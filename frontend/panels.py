"""The two panels that slide in from the side: the settings, and the model's card."""

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from byollm.settings import PageSettings
from frontend.errors import ControlError
from frontend.sampling import NEUTRAL, Sampling, start


@dataclass(frozen=True)
class Controls:
    """The components whose values go into a request."""

    system: gr.Textbox
    max_tokens: gr.Slider
    sampling: list[gr.Slider | gr.Textbox]
    """In the order of the fields of `Sampling`."""

    def all(self) -> list[gr.Textbox | gr.Slider]:
        """Return every component, as the inputs of an event; `values` reads them."""
        return [self.system, *self.sampling]

    def drawing(self) -> list[gr.Slider | gr.Textbox]:
        """Return the components that start from the served model's own values, in the order of `NEUTRAL`."""
        by_name = dict(zip((field.name for field in fields(Sampling)), self.sampling, strict=True))
        return [by_name[name] for name in NEUTRAL]

    @staticmethod
    def values(system: str | None, *sampling: Any) -> tuple[str, Sampling]:
        """Read the values of `all`.

        Raises:
            ControlError: the seed is not a number.
        """
        given = dict(zip((field.name for field in fields(Sampling)), sampling, strict=True))
        seed = (given["seed"] or "").strip()
        if seed and not seed.isdecimal():
            raise ControlError(f"The seed {seed!r} is not a whole number: change it in the settings.")
        return system or "", Sampling(**given | {"seed": int(seed) if seed else None})


def settings_panel(settings: PageSettings) -> Controls:
    """Lay out the settings: what people change often on top, the rest folded away."""
    values = start(settings, {})
    with gr.Column(elem_id="settings-panel"):
        gr.HTML(_head("Settings"), js_on_load=None)
        system = gr.Textbox(
            settings.system_prompt,
            label="System prompt",
            placeholder="How the model should behave, for example: You answer briefly.",
            lines=3,
            max_lines=10,
            elem_id="system-prompt",
        )
        temperature = gr.Slider(
            0,
            2,
            values["temperature"],
            step=0.05,
            label="Temperature",
            info="0 always takes the likeliest token",
        )
        top_p = gr.Slider(
            0.05, 1, values["top_p"], step=0.01, label="Top-p", info="Draw from this share of probability"
        )
        max_tokens = gr.Slider(
            1,
            max(4096, settings.max_tokens),
            settings.max_tokens,
            step=1,
            label="Longest answer",
            info="In tokens",
        )
        with gr.Accordion("More sampling", open=False):
            top_k = gr.Slider(
                0, 200, values["top_k"], step=1, label="Top-k", info="Draw from so many tokens; 0 is off"
            )
            min_p = gr.Slider(
                0,
                1,
                values["min_p"],
                step=0.01,
                label="Min-p",
                info="Drop what is this much less likely than the best",
            )
            # a number field cannot be empty: it would show a 0 that is not meant
            seed = gr.Textbox(
                label="Seed",
                placeholder="random",
                max_length=19,
                info="A whole number; the same one draws the same answer",
            )
        with gr.Accordion("Penalties", open=False):
            repetition = gr.Slider(
                1,
                2,
                values["repetition_penalty"],
                step=0.01,
                label="Repetition",
                info="Of all that came before; 1 is off",
            )
            presence = gr.Slider(
                -2, 2, 0, step=0.05, label="Presence", info="Of tokens already in the answer"
            )
            frequency = gr.Slider(
                -2, 2, 0, step=0.05, label="Frequency", info="Of tokens, each time they came"
            )
    sampling: list[gr.Slider | gr.Textbox] = [
        temperature,
        top_p,
        max_tokens,
        top_k,
        min_p,
        seed,
        repetition,
        presence,
        frequency,
    ]
    return Controls(system, max_tokens, sampling)


def model_panel() -> tuple[gr.HTML, gr.Markdown]:
    """Lay out the model's card: facts, then the text that lies beside the weights."""
    with gr.Column(elem_id="model-panel"):
        gr.HTML(_head("Model"), js_on_load=None)
        facts = gr.HTML(elem_id="facts", js_on_load=None)
        card = gr.Markdown(elem_id="card", sanitize_html=True)
    return facts, card


def _head(title: str) -> str:
    close = f'<button type="button" aria-label="Close {title.lower()}">&times;</button>'
    return f'<div class="panel-head"><h2>{title}</h2>{close}</div>'
