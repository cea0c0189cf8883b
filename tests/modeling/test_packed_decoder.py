"""Every family, packed by every scheme: in memory, on the disk and back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from byollm.modeling import CheckpointError, Decoder, DecoderConfig, load_decoder
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.quantized import QuantizedEmbedding, QuantizedLinear
from tests.modeling.packed_directory import save_packed

SCHEMES = [Scheme("int8"), Scheme("int8", 32), Scheme("int4"), Scheme("int4", 32), Scheme("nf4", 64)]
BOUNDS = {"int8": 0.02, "int4": 0.2, "nf4": 0.25}
"""How far logits may be from the whole ones, as a share of their size, with random weights."""
MakeConfig = Callable[[str], DecoderConfig]


def drawn(config: DecoderConfig) -> Decoder:
    torch.manual_seed(1)
    decoder = Decoder(config).eval()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.15)
    return decoder


def packed(config: DecoderConfig, scheme: Scheme) -> Decoder:
    decoder = drawn(config)
    pack_decoder(decoder, scheme)
    return decoder


@torch.no_grad()
def logits(decoder: Decoder, tokens: Tensor) -> Tensor:
    return decoder.logits(decoder(tokens, torch.arange(tokens.shape[1])))


@pytest.mark.parametrize("scheme", [Scheme("int8"), Scheme("int4", 32), Scheme("nf4", 64)], ids=str)
def test_a_packed_decoder_says_nearly_the_same(
    variant: str, scheme: Scheme, make_config: MakeConfig, tokens: Tensor
) -> None:
    config = make_config(variant)
    whole, found = logits(drawn(config), tokens), logits(packed(config, scheme), tokens)
    assert (found - whole).norm() < BOUNDS[scheme.kind] * whole.norm()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_it_computes_with_the_numbers_that_the_packed_weights_stand_for(
    family: str, scheme: Scheme, make_config: MakeConfig, tokens: Tensor
) -> None:
    config = make_config(family)
    decoder, plain = packed(config, scheme), Decoder(config)
    state = plain.state_dict()
    for name in state:
        module = decoder.get_submodule(name.rpartition(".")[0])
        if name.endswith(".weight") and isinstance(module, QuantizedLinear | QuantizedEmbedding):
            state[name] = module.dequantised(torch.float32)
        else:
            state[name] = decoder.state_dict()[name]
    plain.load_state_dict(state)
    torch.testing.assert_close(logits(decoder, tokens), logits(plain, tokens), rtol=0, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_it_survives_the_disk_bit_for_bit(
    family: str, scheme: Scheme, make_config: MakeConfig, tmp_path: Path
) -> None:
    decoder = packed(make_config(family), scheme)
    loaded = load_decoder(save_packed(decoder, tmp_path, shard_bytes=20_000))
    assert loaded.scheme == scheme
    assert loaded.dtype == torch.float32
    assert not loaded.training
    mine, theirs = decoder.state_dict(), loaded.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


def test_activations_take_the_type_that_is_asked_for_and_scales_keep_theirs(
    family: str, make_config: MakeConfig, tokens: Tensor, tmp_path: Path
) -> None:
    decoder = packed(make_config(family), Scheme("int4", 32))
    narrow = load_decoder(save_packed(decoder, tmp_path), torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    found, expected = logits(narrow, tokens), logits(decoder, tokens)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("scheme", [Scheme("int4"), Scheme("nf4", 64)], ids=str)
def test_another_type_for_the_whole_changes_no_packed_weight(scheme: Scheme, make_config: MakeConfig) -> None:
    decoder = packed(make_config("qwen3"), scheme)
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items() if "_proj." in name}
    decoder.bfloat16().float()
    for name, tensor in before.items():
        assert decoder.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(decoder.state_dict()[name], tensor)


def test_embedding_and_head_stay_whole_beside_nf4_and_take_8_bits_beside_4(make_config: MakeConfig) -> None:
    for scheme, kinds in ((Scheme("nf4", 64), (nn.Embedding, nn.Linear)), (Scheme("int4"), None)):
        decoder = packed(make_config("llama"), scheme)
        if kinds is not None:
            assert (type(decoder.embed_tokens), type(decoder.lm_head)) == kinds
            continue
        assert isinstance(decoder.embed_tokens, QuantizedEmbedding)
        assert isinstance(decoder.lm_head, QuantizedLinear)
        assert decoder.embed_tokens.scheme == decoder.lm_head.scheme == Scheme("int8")


def test_a_model_packed_by_others_is_refused_with_what_to_do(make_config: MakeConfig, tmp_path: Path) -> None:
    directory = save_packed(packed(make_config("llama"), Scheme("int4")), tmp_path)
    config = json.loads((directory / "config.json").read_text())
    for said in ({"quant_method": "bitsandbytes"}, {"quant_method": "gptq", "bits": 4}, {"bits": 4}):
        (directory / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
        with pytest.raises(CheckpointError, match="use the unquantised checkpoint of this model"):
            load_decoder(directory)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"version": 2}, "reads version 1; quantise the model anew"),
        ({"scheme": "int3"}, "'int3' is unknown"),
        ({"group": 48}, "must be a multiple of 32"),
        ({"group": None}, "not as `byollm quantize` writes it"),
    ],
)
def test_words_about_the_packing_that_make_no_sense_are_refused(
    said: dict[str, object], message: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    directory = save_packed(packed(make_config("llama"), Scheme("int4")), tmp_path)
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] |= said
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_decoder(directory)


def test_every_tensor_that_does_not_fit_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    directory = save_packed(packed(make_config("llama"), Scheme("int4")), tmp_path)
    tensors = load_file(directory / "model.safetensors")
    del tensors["layers.0.mlp.up_proj.scales"]
    tensors["layers.1.mlp.up_proj.codes"] = tensors["layers.1.mlp.up_proj.codes"][:, 1:].contiguous()
    tensors["lm_head.scales"] = tensors["lm_head.scales"].float()
    tensors["layers.0.mlp.up_proj.weight"] = torch.zeros(2, 2)
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_decoder(directory)
    for fault in (
        r"missing (1): layers.0.mlp.up_proj.scales",
        r"left over (1): layers.0.mlp.up_proj.weight",
        r"layers.1.mlp.up_proj.codes is (72, 23), expected (72, 24)",
        r"lm_head.scales is F32, expected BF16",
    ):
        assert fault in str(error.value)


def test_loading_never_holds_the_whole_weights(tmp_path: Path) -> None:
    """Nor computing: a process of its own grows by what is packed, and one matrix."""
    config = DecoderConfig(
        vocab_size=512,
        hidden_size=512,
        layers=12,
        heads=8,
        kv_heads=8,
        head_dim=64,
        intermediate_size=1408,
        max_positions=64,
    )
    decoder = Decoder(config)
    pack_decoder(decoder, Scheme("int8"))
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from byollm.modeling import checkpoint\n"
        "torch.ones(64, 64) @ torch.ones(64, 64)\n"
        "def peak():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(1024 * int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "before = peak()\n"
        "decoder = checkpoint.load_decoder(Path(sys.argv[1]), torch.float32)\n"
        "with torch.no_grad():\n"
        "    decoder.logits(decoder(torch.zeros(1, 4, dtype=int), torch.arange(4)))\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-c", script, str(save_packed(decoder, tmp_path))]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0 < grown < 0.6 * 4 * config.num_parameters()
