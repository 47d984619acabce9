"""Trained matchers for other programs: as ONNX or a torch.export program, and as a repository of a model hub."""
