"""llama.cpp's converter for a tokenizer of our own: `convert_gguf.py LLAMA_CPP_SOURCE MODEL [its options]`.

llama.cpp must know by name the pattern that splits text before BPE. Its converter recognises a tokenizer by a
hash of the token ids that a test string gets, so only vocabularies it has met are recognised, whatever their
files say. Ours are split by Qwen2's pattern: this wrapper reads the pattern in tokenizer.json and, where it
is that one, gives the converter the name `qwen2`.
"""

import json
import runpy
import sys
from pathlib import Path

# As in tokenizer.json of https://huggingface.co/Qwen/Qwen2.5-0.5B, and the same without the inline flag.
QWEN2_PATTERNS = tuple(
    contractions + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for contractions in (
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    )
)


def main(source: str, model: str, *options: str) -> None:
    """Run the converter with its ability to recognise extended."""
    sys.path[:0] = [source, str(Path(source, "gguf-py"))]
    from conversion.base import TextModel  # type: ignore[import-not-found]  # of llama.cpp's source tree

    if uses_qwen2_pattern(Path(model, "tokenizer.json")):
        TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    else:
        print("not Qwen2's pattern: left to the converter to recognise", file=sys.stderr)
    sys.argv = ["convert_hf_to_gguf.py", model, *options]
    runpy.run_path(str(Path(source, "convert_hf_to_gguf.py")), run_name="__main__")


def uses_qwen2_pattern(tokenizer: Path) -> bool:
    """Whether a byte-level BPE tokenizer splits text as Qwen2 does, and does nothing else to it."""
    data = json.loads(tokenizer.read_text(encoding="utf-8"))
    steps = (data["pre_tokenizer"] or {}).get("pretokenizers", [])
    return (
        data["model"]["type"] == "BPE"
        and data["normalizer"] is None
        and [step["type"] for step in steps] == ["Split", "ByteLevel"]
        and steps[0]["pattern"].get("Regex") in QWEN2_PATTERNS
        and steps[0]["behavior"] == "Isolated"
        and not steps[1]["add_prefix_space"]
        and not steps[1]["use_regex"]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
