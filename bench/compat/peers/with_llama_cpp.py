"""Greedy tokens from llama.cpp: `with_llama_cpp.py REQUEST.json RESULT.json`.

Runs in an environment with llama-cpp-python; the request names the source tree of llama.cpp, which holds the
converter. Weights and cache are float32.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp  # type: ignore[import-not-found]  # in an environment of its own


def main(request_file: str, result_file: str) -> None:
    """Answer the request."""
    request = json.loads(Path(request_file).read_text())
    with tempfile.TemporaryDirectory() as scratch:
        gguf = str(Path(scratch, "model.gguf"))
        converter = str(Path(__file__).with_name("convert_gguf.py"))
        subprocess.run(
            [
                sys.executable,
                converter,
                request["source"],
                request["model"],
                "--outtype",
                "f32",
                "--outfile",
                gguf,
            ],
            check=True,
        )
        llama = llama_cpp.Llama(
            gguf,
            n_ctx=request["max_length"],
            n_threads=1,
            n_threads_batch=1,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
            verbose=False,
        )
        # add_bos asks for what the file says, as llama-server does; our files say: none
        prompts = [llama.tokenize(text.encode(), add_bos=True, special=True) for text in request["prompts"]]
        outputs = [
            list(itertools.islice(llama.generate(prompt, temp=0.0, repeat_penalty=1.0), request["tokens"]))
            for prompt in prompts
        ]
        kinds = ("general.architecture", "general.file_type", "tokenizer.ggml.model", "tokenizer.ggml.pre")
        result = {
            "versions": {
                "llama-cpp-python": llama_cpp.__version__,
                **{kind: llama.metadata.get(kind) for kind in kinds},
            },
            "prompts": prompts,
            "outputs": outputs,
        }
        llama.close()
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
