"""Pruning inside a serving engine, vLLM 0.32: a plugin for it, answers and load measured with it.

``plugin`` and what it imports run inside vLLM's processes; ``_vllm`` is the one module that touches
what vLLM keeps private. The rest starts engines, asks them, and compares. vLLM wants another range
of transformers than the harnesses do, so it lives in an environment of its own (``make serve``).
"""
