import torch

from nmt.model.area import Area
from nmt.model.sampling import sample_features


def test_features_at_a_cell_centre_are_the_cells_own():
    first, second = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 8, 8)
    centre = torch.tensor([[[40.0, 24.0]]])  # column 2, row 1 of four 16-pixel cells
    nodes = sample_features(first, second, centre, (Area(0, 64), Area(0, 64)))
    expected = torch.nn.functional.normalize(first, dim=1)[0, :, 1, 2]
    assert nodes.shape == (1, 1, 5) and torch.allclose(nodes[0, 0, :3], expected, atol=1e-6)
