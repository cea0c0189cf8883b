"""The page on the real `byollm serve`, with a model of random weights."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from playwright.sync_api import Page, expect

from byollm.modeling import Decoder, DecoderConfig, Tokenizer, save_decoder
from tests.frontend.support import Chat, serving_page
from tests.server.conftest import save_tokenizer
from tests.server.support import VOCAB, serving

CONTEXT = 512
CARD = "---\nlicense: apache-2.0\n---\n# A model of noise\n\nIt says **nothing** of use.\n"


def save_noise(directory: Path, tokenizer: Path) -> None:
    tokenizer.mkdir()
    save_tokenizer(tokenizer)
    torch.manual_seed(1)
    config = DecoderConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        intermediate_size=48,
        max_positions=CONTEXT,
        tie_embeddings=True,
    )
    save_decoder(Decoder(config), directory, Tokenizer.load(tokenizer))
    (directory / "README.md").write_text(CARD)


def test_conversation_with_the_real_server(open_page: Callable[..., Page], tmp_path: Path) -> None:
    save_noise(tmp_path / "noise", tmp_path / "tokenizer")
    with (
        serving(tmp_path / "noise", tmp_path / "server.log") as server,
        serving_page(server.url, tmp_path / "page.log") as address,
    ):
        page = open_page(address)
        chat = Chat(page)
        expect(page.locator("#status .chip.ready")).to_contain_text("noise")
        page.get_by_role("button", name="Model", exact=True).click()
        panel = page.get_by_role("region", name="Model")
        expect(panel).to_contain_text("512 tokens")
        page.get_by_role("button", name="Settings", exact=True).click()
        for name, value in {"Longest answer": "40", "Temperature": "1.5"}.items():
            page.get_by_label(f"number input for {name}").fill(value)
        page.get_by_label("System prompt").fill("Be brief.")
        # of answers drawn from noise, one in a hundred has no text
        page.get_by_role("button", name="More sampling").click()
        page.get_by_role("textbox", name="Seed").fill("7")
        page.keyboard.press("Escape")

        chat.ask_and_wait("the cat sat on the mat")
        expect(chat.notes).to_have_text(re.compile(r"\d+ tokens? · .*first after \d"))
        chat.ask_and_wait("zqx " * 50)  # four tokens a word, as it was not trained on it
        chat.ask_and_wait("zqx " * 80)
        # the server refuses what does not fit, says why, and the page offers the way out
        expect(chat.notes.last).to_contain_text("maximum context length is 512 tokens")
        page.get_by_role("button", name="Leave out the oldest turns").click()
        expect(chat.notes.last).to_contain_text("left out, to fit the model's context")
        chat.wait()
        server.wait_until_idle()
