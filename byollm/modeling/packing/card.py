"""The card of a packed model, as its README.md."""

from byollm.modeling.packing.record import Record

GB = 1e9


def card(record: Record, name: str) -> str:
    """Return a card in Markdown."""
    how = f"{record.scheme}, groups of {record.group}"
    if record.calibrated:
        how += ", calibrated (GPTQ)"
    rows = {
        "made of": f"`{record.source}` ({record.family})",
        "scheme": how,
        "parameters": f"{record.parameters:,}",
        "weights before": f"{record.bytes_before:,} bytes ({record.bytes_before / GB:.2f} GB)",
        "weights after": f"{record.bytes_after:,} bytes ({record.bytes_after / GB:.2f} GB), "
        f"{record.saved:.0%} less",
        "bits per weight": f"{record.bits_per_weight:.2f}, scales and what is not packed counted in",
    }
    if (quality := record.quality) is not None:
        rows |= {
            "bits per byte": f"{quality.bits_per_byte_before:.4f} before, {quality.bits_per_byte_after:.4f} "
            f"after ({quality.change:+.2%}), over {quality.tokens:,} held-out tokens",
            "perplexity": f"{quality.perplexity_before:.3f} before, {quality.perplexity_after:.3f} after",
        }
    table = "\n".join(f"| {what} | {value} |" for what, value in rows.items())
    return f"""---
library_name: byollm
base_model: {record.source}
---

# {name}

Packed by `byollm quantize`. It is served from the mapped files, without ever being unpacked:

```sh
byollm serve --model {name}
```

| | |
|---|---|
{table}

`config.json` says how it is packed, `quantization.json` what of (each file with its hash), and
`sha256sum --check SHA256SUMS` whether it is whole. The terms of the original model apply to it.
"""
