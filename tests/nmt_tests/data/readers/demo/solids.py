"""What the tests of the demo draw examples from."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from nmt.data.readers.demo import render as demo
from nmt.data.readers.demo.mesh import Solid

few = settings(max_examples=25, deadline=None)


seeds = st.integers(0, 2**31 - 1)


def normals(solid: Solid) -> np.ndarray:
    faces = solid.faces
    return np.cross(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1])


category_names = st.sampled_from(list(demo.CATEGORIES))
