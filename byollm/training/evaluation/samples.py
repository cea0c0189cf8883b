"""What a model writes: fixed prompts, the likeliest answer and a drawn one, for a model card."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from byollm.modeling import Tokenizer
from byollm.training.evaluation.scorer import document_start

CONTINUATIONS = (
    "The history of the city",
    "Water is a chemical compound that",
    "Once upon a time, a fox",
    "The economy of France",
    "In psychology, memory is",
)
QUESTIONS = (
    "Hello! Who are you?",
    "What is the capital of France?",
    "Give me three tips for staying healthy.",
    "Why is the sky blue?",
    "Write a short story about a lost dog.",
    "What is 17 + 25?",
)
TEMPERATURE, TOP_P, SEED, MAX_TOKENS = 0.8, 0.95, 0, 80

Generate = Callable[[Sequence[Sequence[int]], float], list[str]]
"""From prompts in tokens and a temperature (0: greedy) to the text that follows each."""


@dataclass(frozen=True)
class Sample:
    """A prompt and what followed."""

    prompt: str
    greedy: str
    drawn: str


def draw_samples(tokenizer: Tokenizer, generate: Generate) -> dict[str, list[Sample]]:
    """Return continuations of texts, and answers to questions where the model has a chat template."""
    start = [document_start(tokenizer)]
    samples = {
        "continuations": _samples(CONTINUATIONS, lambda text: start + tokenizer.encode(text), generate)
    }
    if tokenizer.has_chat_template:
        samples["answers"] = _samples(
            QUESTIONS,
            lambda text: tokenizer.apply_chat_template([{"role": "user", "content": text}]),
            generate,
        )
    return samples


def samples_as_markdown(samples: dict[str, list[Sample]]) -> str:
    """Lay the samples out as a section of a model card: fixed prompts, nothing picked."""
    parts = [
        f"Nothing is picked: fixed prompts, at most {MAX_TOKENS} tokens; greedy, and drawn at temperature "
        f"{TEMPERATURE}, top-p {TOP_P}, seed {SEED}."
    ]
    for kind, of_kind in samples.items():
        parts.append(f"### {kind.capitalize()}")
        for sample in of_kind:
            parts += [
                f"**{sample.prompt}**",
                f"- greedy: {_line(sample.greedy)}\n- drawn: {_line(sample.drawn)}",
            ]
    return "\n\n".join(parts) + "\n"


def _samples(texts: Sequence[str], encode: Callable[[str], list[int]], generate: Generate) -> list[Sample]:
    prompts = [encode(text) for text in texts]
    greedy, drawn = generate(prompts, 0.0), generate(prompts, TEMPERATURE)
    return [Sample(*sample) for sample in zip(texts, greedy, drawn, strict=True)]


def _line(text: str) -> str:
    """Keep a text within one item of a list."""
    return text.strip().replace("\n", " ⏎ ") or "(nothing)"
