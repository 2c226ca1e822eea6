# SPDX-License-Identifier: Apache-2.0
"""P2PFL's compression undone in NumPy, as its nodes do it."""
import numpy as np


def undo(techniques, params):
    """As P2PFL does it, in NumPy."""
    for name, info in reversed(techniques):
        if name == "topk":
            full = []
            for i, p in enumerate(params):
                one = info["topk_sparse_metadata"][i]
                a = np.zeros(int(np.prod(one["shape"])), p.dtype)
                a[one["indices"]] = p
                full.append(a.reshape(one["shape"]))
            params = full
        elif name == "low_rank":
            rest, state = iter(params), info["lowrank_compressed_state"]
            params = [state[i][0] @ np.diag(state[i][1]) @ state[i][2] if i in state else next(rest) for i in range(len(params) + len(state))]
        elif info["ptq_type"] == "float":
            params = [p.astype(info["ptq_original_dtype"]) for p in params]
        else:
            axis = info["ptq_channel_axis"]
            by = lambda v, p: v if axis is None else np.reshape(v, [-1 if k == axis else 1 for k in range(p.ndim)])  # noqa: E731
            params = [((p.astype("<f4") - by(z, p)) * by(s, p)).astype(info["ptq_original_dtype"])
                      for p, s, z in zip(params, info["ptq_scales"], info["ptq_zero_points"])]
    return params
