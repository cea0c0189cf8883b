"""What byollm trains opens elsewhere: greedy tokens of transformers, vLLM and llama.cpp beside ours."""
