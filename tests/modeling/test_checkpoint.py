import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from byollm.modeling import CheckpointError, Decoder, DecoderConfig, Tokenizer, load_decoder, save_decoder

MakeConfig = Callable[[str], DecoderConfig]


def random_decoder(config: DecoderConfig) -> Decoder:
    decoder = Decoder(config)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return decoder


def assert_same(one: Decoder, other: Decoder) -> None:
    assert one.config == other.config
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)


@pytest.fixture
def saved(make_config: MakeConfig, tmp_path: Path) -> Path:
    """A small model directory."""
    save_decoder(random_decoder(make_config("llama")), tmp_path / "model")
    return tmp_path / "model"


def rewrite(directory: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def edit_config(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_decoder_survives_the_disk_bit_for_bit(
    variant: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    decoder = random_decoder(make_config(variant))
    save_decoder(decoder, tmp_path)
    assert_same(load_decoder(tmp_path), decoder)


def test_shards_hold_what_one_file_would(family: str, make_config: MakeConfig, tmp_path: Path) -> None:
    decoder = random_decoder(make_config(family))
    save_decoder(decoder, tmp_path, shard_bytes=30_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 3
    assert sorted(set(index["weight_map"].values())) == shards
    assert index["metadata"]["total_size"] == 4 * decoder.config.num_parameters()
    largest = max(4 * parameter.numel() for parameter in decoder.parameters())
    assert all((tmp_path / shard).stat().st_size < max(30_000, 3 * largest) + 5_000 for shard in shards)
    assert_same(load_decoder(tmp_path), decoder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_any_float_type_is_stored_and_read(
    dtype: torch.dtype, make_config: MakeConfig, tmp_path: Path
) -> None:
    decoder = random_decoder(make_config("qwen3"))
    save_decoder(decoder, tmp_path, dtype=dtype)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert {tensor.dtype for tensor in load_decoder(tmp_path).state_dict().values()} == {dtype}
    wide = load_decoder(tmp_path, dtype=torch.float32)
    for name, tensor in wide.state_dict().items():
        torch.testing.assert_close(tensor, decoder.state_dict()[name].to(dtype).float(), rtol=0, atol=0)
    assert {p.dtype for p in decoder.parameters()} == {torch.float32}, "saving must not narrow the original"


def test_rotary_tables_are_filled_after_loading(make_config: MakeConfig, tmp_path: Path) -> None:
    decoder = Decoder(make_config("llama 3.1 rope"))
    save_decoder(decoder, tmp_path)
    loaded = load_decoder(tmp_path)
    assert decoder.rotary is not None
    assert loaded.rotary is not None
    torch.testing.assert_close(loaded.rotary.cos, decoder.rotary.cos, rtol=0, atol=0)
    torch.testing.assert_close(loaded.rotary.sin, decoder.rotary.sin, rtol=0, atol=0)


def test_another_user_can_read_every_file(saved: Path) -> None:
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in saved.iterdir())


def test_the_loaded_weights_do_not_hang_on_the_file(saved: Path) -> None:
    decoder = load_decoder(saved)
    before = decoder.embed_tokens.weight.clone()
    (saved / "model.safetensors").write_bytes(b"\0" * (saved / "model.safetensors").stat().st_size)
    assert torch.equal(decoder.embed_tokens.weight, before)


@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_names_without_the_models_prefix_are_read(
    variant: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    decoder = random_decoder(replace(make_config(variant), tie_embeddings=True))
    save_decoder(decoder, tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name.split(".", 1)[1]: tensor for name, tensor in load_file(path).items()}, path)
    assert_same(load_decoder(tmp_path), decoder)


def test_masks_and_tables_of_older_checkpoints_are_passed_over(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    decoder = random_decoder(make_config("gpt2"))
    save_decoder(decoder, tmp_path / "gpt2")
    mask = torch.ones(1, 1, 96, 96)
    rewrite(tmp_path / "gpt2", lambda tensors: tensors.update({"transformer.h.0.attn.bias": mask}))
    assert_same(load_decoder(tmp_path / "gpt2"), decoder)
    decoder = random_decoder(make_config("llama"))
    save_decoder(decoder, tmp_path / "llama")
    table = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    rewrite(tmp_path / "llama", lambda tensors: tensors.update(table))
    assert_same(load_decoder(tmp_path / "llama"), decoder)


def test_a_tied_head_may_be_stored_too_but_not_differ(make_config: MakeConfig, tmp_path: Path) -> None:
    decoder = random_decoder(make_config("qwen2 tied"))
    save_decoder(decoder, tmp_path)
    embedding = decoder.embed_tokens.weight.detach()
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": embedding.clone()}))
    assert_same(load_decoder(tmp_path), decoder)
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": embedding + 1}))
    with pytest.raises(CheckpointError, match="set tie_word_embeddings to false"):
        load_decoder(tmp_path)


def test_saving_replaces_an_older_model_and_keeps_what_is_no_part_of_it(
    make_config: MakeConfig, byte_level_directory: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(byte_level_directory)
    save_decoder(random_decoder(make_config("gpt2")), tmp_path / "model", tokenizer, shard_bytes=30_000)
    (tmp_path / "model" / "README.md").write_text("a card")
    (tmp_path / "model" / "notes").mkdir()
    (tmp_path / "model" / "notes" / "one").write_text("a note")
    new = random_decoder(make_config("qwen3"))
    save_decoder(new, tmp_path / "model")
    assert_same(load_decoder(tmp_path / "model"), new)
    assert [path.name for path in (tmp_path / "model").glob("*safetensors*")] == ["model.safetensors"]
    assert (tmp_path / "model" / "README.md").read_text() == "a card"
    assert (tmp_path / "model" / "notes" / "one").read_text() == "a note"
    assert (tmp_path / "model" / "tokenizer.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "nothing is left beside it"


def test_special_ids_reach_both_config_files(
    make_config: MakeConfig, byte_level_directory: Path, tmp_path: Path
) -> None:
    decoder = random_decoder(make_config("qwen3"))
    save_decoder(decoder, tmp_path, Tokenizer.load(byte_level_directory), eos_ids=[2, 0])
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / name).read_text())["eos_token_id"] == [2, 0]
    assert Tokenizer.load(tmp_path).eos_ids == (2, 0)
    save_decoder(decoder, tmp_path, Tokenizer.load(byte_level_directory))
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def test_how_to_sample_stands_in_the_generation_config(
    make_config: MakeConfig, byte_level_directory: Path, tmp_path: Path
) -> None:
    wishes = {"do_sample": True, "temperature": 0.7, "top_p": 0.9}
    decoder = random_decoder(make_config("qwen3"))
    save_decoder(decoder, tmp_path, Tokenizer.load(byte_level_directory), generation=wishes)
    found = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (found.do_sample, found.temperature, found.top_p, found.eos_token_id) == (True, 0.7, 0.9, 0)


def test_without_a_tokenizer_no_special_id_is_made_up(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (None, None)


def test_every_wrong_tensor_is_named_in_one_error(saved: Path) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        del tensors["model.layers.0.self_attn.q_proj.weight"], tensors["lm_head.weight"]
        tensors["model.layers.3.mlp.up_proj.weight"] = torch.zeros(2)
        tensors["model.norm.weight"] = torch.zeros(7)
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(72, 48, dtype=torch.int8)

    rewrite(saved, spoil)
    with pytest.raises(CheckpointError) as caught:
        load_decoder(saved)
    message = str(caught.value)
    assert str(saved) in message
    assert "missing (2): lm_head.weight; model.layers.0.self_attn.q_proj.weight\n" in message
    assert "left over (1): model.layers.3.mlp.up_proj.weight\n" in message
    assert "misshapen (1): model.norm.weight is (7,), expected (48,)\n" in message
    assert (
        "type (1): model.layers.1.mlp.up_proj.weight is I8, expected F64 or F32 or F16 or BF16\n" in message
    )
    assert "copy the model directory afresh" in message


def test_fused_and_split_tensors_are_named_as_they_are_stored(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    for variant, name in (
        ("gpt2", "transformer.h.1.attn.c_attn.weight"),
        ("stablelm norms of heads", "model.layers.2.self_attn.q_layernorm.norms.5.weight"),
    ):
        save_decoder(random_decoder(make_config(variant)), tmp_path)
        rewrite(tmp_path, lambda tensors, name=name: tensors.pop(name))
        with pytest.raises(CheckpointError, match=f"missing \\(1\\): {name}"):
            load_decoder(tmp_path)


def test_a_file_cut_short_is_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    for cut in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged or cut short .*afresh"):
            load_decoder(saved)
    path.write_bytes(b"\xff" * 1000)
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_decoder(saved)


def test_absent_files_are_named_with_the_remedy(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere/config\.json: absent; expected a Hugging Face"):
        load_decoder(tmp_path / "nowhere")
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="copy the whole model directory"):
        load_decoder(saved)
    (saved / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="convert its pickled weights"):
        load_decoder(saved)


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_damaged_config_is_named(saved: Path, content: str) -> None:
    (saved / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json: .*copy the file afresh"):
        load_decoder(saved)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'; supported: qwen3"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope scaling 'yarn' is not supported"),
        ({"num_attention_heads": 5}, "heads .5. must be a multiple of kv_heads .2."),
    ],
)
def test_an_unsupported_config_is_named_with_its_file(saved: Path, values: dict[str, Any], said: str) -> None:
    edit_config(saved, **values)
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{said}"):
        load_decoder(saved)


def test_damaged_indexes_and_absent_shards_are_named(make_config: MakeConfig, tmp_path: Path) -> None:
    save_decoder(random_decoder(make_config("llama")), tmp_path, shard_bytes=30_000)
    index = tmp_path / "model.safetensors.index.json"
    whole = index.read_text()
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name}: this shard is absent"):
        load_decoder(tmp_path)
    shard.write_bytes(sorted(tmp_path.glob("*.safetensors"))[0].read_bytes())
    with pytest.raises(CheckpointError, match="is in both"):
        load_decoder(tmp_path)
    shard.write_bytes(content)
    for wrong in ("{", "{}", "[]", '{"weight_map": {"a": ["b"]}}'):
        index.write_text(wrong)
        with pytest.raises(CheckpointError, match=r"index\.json: not an index of shards"):
            load_decoder(tmp_path)
    index.write_text(whole.replace(shard.name, "../" + shard.name))
    with pytest.raises(CheckpointError, match="is not a plain file name"):
        load_decoder(tmp_path)


def test_nothing_but_a_model_is_replaced(make_config: MakeConfig, tmp_path: Path) -> None:
    decoder = random_decoder(make_config("llama"))
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(CheckpointError, match="holds no model; choose a new or an empty directory"):
        save_decoder(decoder, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"
    with pytest.raises(CheckpointError, match="holds no model"):
        save_decoder(decoder, tmp_path / "thesis.txt")


def test_a_place_that_cannot_be_written_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/model: could not be written .*free some space"):
        save_decoder(random_decoder(make_config("llama")), tmp_path / "file" / "model")


def test_a_shape_that_the_family_cannot_express_is_not_saved(make_config: MakeConfig, tmp_path: Path) -> None:
    decoder = Decoder(replace(make_config("llama"), qk_norm=True))
    with pytest.raises(CheckpointError, match="cannot express qk_norm=True"):
        save_decoder(decoder, tmp_path / "model")
    assert not (tmp_path / "model").exists()
