"""Operators in C++ for training and evaluation on CPUs: optional, and never part of an exported model.

`build` makes the library, `library` finds it, `operators` makes it known to MindSpore, `cells` are the parts of a
network that are made of it. `src.layers.uses_cpu_kernels` says whether a network gets them.
"""
