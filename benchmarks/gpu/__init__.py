"""What pruning costs on a GPU, and whether it computes there what it computes on a CPU: everything
in one command, on a machine that has torch and transformers and nothing else.

    python -m benchmarks.gpu [--minutes 8] [--out results/gpu]
    python -m benchmarks.gpu --dry

docs/gpu.md says how to run it. Neither Hydra nor OmegaConf is imported.
"""
