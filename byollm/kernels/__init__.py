"""The inner loops of the decoder, each a plain torch function that defines what is computed."""

from byollm.kernels.causal_attention import causal_attention
from byollm.kernels.dequantise import dequantise
from byollm.kernels.gelu import gelu
from byollm.kernels.layer_norm import layer_norm
from byollm.kernels.rms_norm import rms_norm
from byollm.kernels.rotary import apply_rotary
from byollm.kernels.swiglu import swiglu

__all__ = ["apply_rotary", "causal_attention", "dequantise", "gelu", "layer_norm", "rms_norm", "swiglu"]
