"""A pinhole camera: world (units) -> picture (pixels).

Pixel centres lie at whole numbers: u runs right from 0 to size - 1, v runs down, and the picture spans
[-0.5, size - 0.5]. The camera looks along its own +z, as in OpenCV; tests hold it to `cv2.projectPoints`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Camera:
    """Intrinsics and extrinsics: x_camera = rotation @ x_world + translation."""

    focal: float  # pixels
    centre: tuple[float, float]  # (u, v) of the optical axis, pixels
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,) units

    @property
    def matrix(self) -> np.ndarray:
        """The intrinsic matrix K, (3, 3)."""
        return np.array([[self.focal, 0, self.centre[0]], [0, self.focal, self.centre[1]], [0, 0, 1.0]])

    @property
    def position(self) -> np.ndarray:
        """The camera's position in the world, (3,)."""
        return -self.rotation.T @ self.translation

    def to_camera(self, points: ArrayLike) -> np.ndarray:
        """World (..., 3) -> camera (..., 3), both in units; the last component is the depth."""
        return np.asarray(points) @ self.rotation.T + self.translation

    def to_world(self, points: ArrayLike) -> np.ndarray:
        """Camera (..., 3) -> world (..., 3): the inverse of `to_camera`."""
        return (np.asarray(points) - self.translation) @ self.rotation

    def project(self, points: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """World (..., 3) -> pixels (..., 2) and depth (...,) in units. A point behind the camera is an error."""
        camera_points = self.to_camera(points)
        depth = camera_points[..., 2]
        if (depth <= 0).any():
            raise ValueError(f"a point lies {-depth.min():.2f} units behind the camera; move it to a positive depth.")
        return self.focal * camera_points[..., :2] / depth[..., None] + self.centre, depth

    def apparent_radius(self, radius: float, depth: ArrayLike) -> np.ndarray:
        """Radius in pixels of a ball of `radius` units at `depth` units: near is large."""
        return self.focal * radius / np.asarray(depth)
