"""The Normalized Matching Transformer (arXiv 2503.17715): model, data, training. Plain PyTorch, without Ray."""
