"""Which body of a MuJoCo simulation every pixel shows. Imported by worker processes: no JAX here."""

from typing import Any

import numpy as np

from world_models.core.errors import config_error

FIELD = "config.record.instances"


def instances(environment: Any) -> np.ndarray:
    """Masks of the bodies in the present frame of one of Gymnasium's MuJoCo environments, from its own camera.

    Args:
      environment: made with `render_mode="rgb_array"` and reset.

    Returns:
      uint8 [height, width], of the size that `render` has: the number of the body that a pixel shows, 0 for what
      belongs to the world (ground, walls, sky).

    Raises:
      ConfigError: if the environment has no renderer of MuJoCo's, or more than 255 bodies.
    """
    renderer = getattr(environment.unwrapped, "mujoco_renderer", None)
    if renderer is None:
        raise config_error(FIELD, True, f"be False: {environment.spec.id!r} does not render with Gymnasium's MuJoCo")
    import mujoco

    if renderer.viewer is None:
        environment.render()
    viewer, model = renderer.viewer, renderer.model
    if model.nbody > 256:
        raise config_error(FIELD, True, f"be False: {environment.spec.id!r} has {model.nbody} bodies, at most 255 fit")
    flags = viewer.scn.flags
    flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
    try:  # with the viewer's own argument `segmentation`, its uint8 sums overflow in NumPy 2
        colors = viewer.render("rgb_array", camera_id=renderer.camera_id)
    finally:
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
    numbers = colors.astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
    bodies = np.zeros(viewer.scn.ngeom + 1, np.uint8)  # 0 is the sky
    owners = {int(mujoco.mjtObj.mjOBJ_GEOM): model.geom_bodyid, int(mujoco.mjtObj.mjOBJ_SITE): model.site_bodyid}
    for geom in viewer.scn.geoms[: viewer.scn.ngeom]:
        if geom.segid >= 0 and geom.objtype in owners:
            bodies[geom.segid + 1] = owners[geom.objtype][geom.objid]
    return bodies[np.where(numbers < len(bodies), numbers, 0)]
