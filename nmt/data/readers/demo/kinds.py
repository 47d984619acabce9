"""Categories of the `demo` data set: each builder makes one individual with its own proportions, pose and colours.

A builder draws everything from the generator it is given and names the keypoints. Units are arbitrary, for an object is
fitted to the picture later. Two cues can be learned. Every part has a colour family that varies between individuals.
Paired parts carry a weak mark, warm on the left and cool on the right, which tells left from right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nmt.data.readers.demo.mesh import Array, Solid, rotation, unit, vector
from nmt.data.readers.demo.palette import LEFT_RIGHT, Palette, swing


def airplane(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build an airliner with an engine under each wing."""
    body = Solid()
    hull, trim = palette.colour(0.58, 0.12, 0.95), palette.colour(0.6, 0.75, 0.7)
    long, radius = rng.uniform(0.9, 1.1), rng.uniform(0.1, 0.15)
    x = np.array([-1.0, -0.93, -0.7, -0.45, -0.2, 0.05, 0.3, 0.55, 0.78, 0.92, 1.0]) * long
    z = np.array([0.6, 0.5, 0.25, 0.05, 0, 0, 0, 0, -0.05, -0.15, -0.25]) * radius
    size = np.array([0.02, 0.25, 0.6, 0.9, 1, 1, 1, 1, 0.85, 0.55, 0.02]) * radius
    skin = np.tile(hull, (10, 1))
    skin[:2], skin[8], skin[4:6] = trim, trim, trim if rng.random() < 0.5 else hull
    body.loft(np.stack([x, 0 * x, z], axis=1), size, skin, sides=12)
    with body.raised(0.1):
        glass = palette.colour(0.55, 0.55, 0.25)
        body.ball(vector(0.8 * long, 0, 0.5 * radius), (0.13, 0.75 * radius, 0.5 * radius), glass)

    fin_root = vector(-0.78 * long, 0, 0.6 * radius)
    fin_top = fin_root + vector(-rng.uniform(0.15, 0.3), 0, rng.uniform(0.3, 0.45))
    chord = np.array([0.2, 0.17, 0.14, 0.1])[:, None] * np.array([1.0, 0.09])
    body.loft(np.linspace(fin_root, fin_top, 4), chord, palette.bands(trim, hull, 3), side=(1, 0, 0), sides=6)
    body.points |= {"nose": vector(x[-1], 0, z[-1]), "cockpit": vector(0.86 * long, 0, 0.9 * radius)}
    body.points |= {"fin_top": fin_top, "tail": vector(x[0], 0, z[0])}
    span, sweep, rise = rng.uniform(0.75, 1.05), rng.uniform(0.1, 0.5), rng.uniform(0.0, 0.2)
    mount, small_span = rng.uniform(0.32, 0.42), rng.uniform(0.32, 0.42)
    metal = palette.colour(0.6, 0.08, 0.6)
    for name, sign in LEFT_RIGHT:
        root = vector(0.15 * long, sign * 0.6 * radius, -0.4 * radius)
        reach = vector(-sweep, sign * span, rise)
        _airplane_wing(body, palette, root, reach, 0.24, np.stack([hull, hull, hull, trim, hull]), sign)
        engine = root + mount * reach + vector(0.12, 0, -0.1)
        body.limb(engine - vector(0.16, 0, 0), engine + vector(0.12, 0, 0), (0.045, 0.075), metal, sides=8)
        body.disc(engine + vector(0.16, 0, 0), vector(1, 0, 0), 0.07, 0.02, palette.mark(sign), sides=8)
        tail_root = vector(-0.85 * long, sign * 0.2 * radius, 0.5 * radius)
        tail_reach = vector(-0.4 * sweep - 0.05, sign * small_span, 0.3 * rise)
        _airplane_wing(body, palette, tail_root, tail_reach, 0.14, np.stack([trim, trim]), sign)
        body.points |= {
            f"{name}_wing_root": root + vector(0.22, sign * 0.4 * radius, 0),
            f"{name}_wing_tip": root + reach,
            f"{name}_engine": engine + vector(0.17, 0, 0),
            f"{name}_tailplane_tip": tail_root + tail_reach,
        }
    return body


def _airplane_wing(
    body: Solid, palette: Palette, root: Array, reach: Array, chord: float, panels_P3: Array, sign: float
) -> None:
    """Add a thin tapering wing in panels of the given paints; one more, at the tip, carries the mark of its side."""
    num_rings = len(panels_P3) + 2
    radii = np.linspace(chord, 0.4 * chord, num_rings)[:, None] * np.array([1.0, 0.1])
    paints = np.concatenate([panels_P3, palette.mark(sign)[None]])
    body.loft(np.linspace(root, root + reach, num_rings), radii, paints, side=(1, 0, 0), sides=6)


def bicycle(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build a bicycle with handlebar and cranks turned."""
    body = Solid()
    frame, steel = palette.colour(0.35, 0.75, 0.75), palette.colour(0.6, 0.06, 0.75)
    wheel, base = rng.uniform(0.3, 0.36), rng.uniform(0.48, 0.58)
    saddle, head = vector(-0.27, 0, rng.uniform(0.78, 0.98)), vector(base - 0.2, 0, rng.uniform(0.68, 0.93))
    rear, front, crank = vector(-base, 0, wheel), vector(base, 0, wheel), vector(-0.08, 0, 0.9 * wheel)
    steer, num_spokes = rotation(2, rng.uniform(-0.5, 0.5)), int(rng.integers(7, 12))
    _bicycle_wheel(body, rear, wheel, np.eye(3), num_spokes, steel)
    _bicycle_wheel(body, front, wheel, steer, num_spokes, steel)

    joint, stem = saddle + 0.3 * (crank - saddle), head + vector(-0.03, 0, 0.12)
    for start, end in ((crank, saddle), (joint, head), (crank, head), (crank, rear), (joint, rear)):
        body.limb(start, end, (0.028, 0.026), frame, sides=6)
    body.limb(stem - vector(0, 0, 0.02), front, (0.026, 0.022), frame, sides=6)
    leather = palette.colour(0.07, 0.65, 0.4)
    body.limb(saddle - vector(0.1, 0, -0.02), saddle + vector(0.14, 0, 0.01), (0.07, 0.03), leather, sides=7)
    lamp = head + steer @ vector(0.09, 0, 0.02)
    body.ball(lamp, 0.055, palette.colour(0.15, 0.8, 1.0), sides=8)
    body.points |= {"rear_hub": rear, "front_hub": front, "saddle": saddle, "crank": crank, "stem": stem, "lamp": lamp}
    bar, turn = rng.uniform(0.2, 0.28), rng.uniform(0, 2 * math.pi)
    for name, sign in LEFT_RIGHT:
        grip = stem + steer @ vector(-0.03, sign * bar, 0.03)
        body.limb(stem, grip, (0.02, 0.02), steel, sides=5)
        body.limb(grip + 0.35 * (stem - grip), grip, (0.035, 0.035), palette.mark(sign), sides=6)
        pedal = crank + vector(sign * 0.15 * math.cos(turn), sign * 0.1, sign * 0.15 * math.sin(turn))
        body.limb(crank + vector(0, sign * 0.07, 0), pedal, (0.018, 0.018), steel, sides=4)
        body.box(pedal + vector(0, sign * 0.05, 0), (0.06, 0.05, 0.02), palette.mark(sign), cells=1)
        body.points |= {f"{name}_grip": grip, f"{name}_pedal": pedal}
    return body


def _bicycle_wheel(body: Solid, hub: Array, radius: float, turned: Array, num_spokes: int, steel: Array) -> None:
    """Add tyre, spokes and hub in the plane of columns 0 and 2 of `turned`."""

    def rim(count: int) -> Array:
        angle = np.linspace(0, 2 * math.pi, count, endpoint=False)[:, None]
        return hub + radius * (np.cos(angle) * turned[:, 0] + np.sin(angle) * turned[:, 2])

    rubber = vector(0.15, 0.15, 0.16)
    body.loft(rim(20), np.full(20, 0.032), rubber, side=turned[:, 1], sides=5, closed=True)
    for end in rim(num_spokes):
        body.limb(hub, end, (0.01, 0.01), steel, sides=3)
    body.limb(hub - 0.05 * turned[:, 1], hub + 0.05 * turned[:, 1], (0.045, 0.045), steel, sides=6)


def bird(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build a bird with its wings half or fully open."""
    body = Solid()
    back, breast, tips = (
        palette.colour(0.6, 0.65, 0.75),
        palette.colour(0.1, 0.65, 0.95),
        palette.colour(0.65, 0.6, 0.35),
    )
    yellow, dark = palette.colour(0.13, 0.85, 0.95), vector(0.1, 0.1, 0.12)
    pitch, gaze = rotation(1, -rng.uniform(0.0, 0.7)), rotation(2, rng.uniform(-0.5, 0.5))
    plump, long = rng.uniform(0.17, 0.24), rng.uniform(0.4, 0.5)
    spine = np.linspace(-long, long, 8)[:, None] * pitch[:, 0]
    girth = plump * np.array([0.15, 0.55, 0.85, 1.0, 1.02, 0.9, 0.6, 0.25])
    body.loft(spine, girth, np.concatenate([np.tile(back, (4, 1)), np.tile(breast, (3, 1))]), sides=10)

    head = spine[7] + vector(0.04, 0, rng.uniform(0.06, 0.16))
    body.ball(head, 0.62 * plump, back, sides=9)
    beak = head + gaze @ vector(0.62 * plump + rng.uniform(0.12, 0.22), 0, -0.02)
    body.limb(head + gaze @ vector(0.45 * plump, 0, 0), beak, (0.06, 0.012), yellow, sides=6)
    crest = head + vector(-0.05, 0, 0.62 * plump + rng.uniform(0.03, 0.12))
    body.limb(head + vector(0, 0, 0.45 * plump), crest, (0.05, 0.015), breast, sides=5)
    tail = spine[0] + pitch @ vector(-rng.uniform(0.22, 0.38), 0, rng.uniform(-0.05, 0.1))
    fan = np.array([[0.05, 0.05], [0.07, 0.03], [0.1, 0.025], [0.13, 0.02], [0.1, 0.005]])
    body.loft(np.linspace(spine[1], tail, 5), fan, palette.bands(tips, back, 4), sides=6)
    chest = spine[5] - pitch @ vector(0, 0, 0.9 * plump)
    body.points |= {"beak": beak, "crest": crest, "breast": chest, "tail": tail}
    rise, sweep, span = rng.uniform(-0.3, 0.9), rng.uniform(-0.1, 0.6), rng.uniform(0.6, 0.85)
    for name, sign in LEFT_RIGHT:
        shoulder, raised = spine[5] + vector(-0.02, sign * 0.75 * plump, 0.3 * plump), rise + rng.uniform(-0.2, 0.2)
        reach = span * vector(-math.sin(sweep), sign * math.cos(sweep) * math.cos(raised), math.sin(raised))
        bend = shoulder + pitch @ (0.45 * reach + vector(0.08, 0, 0.05))
        tip = shoulder + pitch @ (reach - vector(0.15, 0, 0))
        line = np.concatenate([np.linspace(shoulder, bend, 4), np.linspace(bend, tip, 4)[1:]])
        chord = np.array([0.12, 0.15, 0.16, 0.165, 0.15, 0.11, 0.03])[:, None] * np.array([1.0, 0.12])
        feathers = np.stack([back, back, breast, palette.mark(sign), tips, tips])
        body.loft(line, chord, feathers, side=pitch[:, 0], sides=6)
        eye = head + gaze @ vector(0.35, sign * 0.5, 0.15) * plump
        body.ball(eye, 0.045, dark, sides=6)
        hip = spine[3] + vector(0, sign * 0.45 * plump, -0.75 * plump)
        foot = hip + swing(rng.uniform(0.18, 0.26), rng.uniform(-0.4, 0.4), 0.1, sign)
        body.limb(hip, foot, (0.035, 0.02), yellow, sides=5)
        body.limb(foot - vector(0.03, 0, 0), foot + vector(0.09, 0, -0.01), (0.03, 0.02), palette.mark(sign), sides=5)
        body.points |= {f"{name}_wing_bend": bend, f"{name}_wing_tip": tip, f"{name}_eye": eye, f"{name}_foot": foot}
    return body


def car(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build a car with lamps, mirrors and four wheels."""
    body = Solid()
    lacquer, roof = palette.colour(0.0, 0.8, 0.8), palette.colour(0.02, 0.55, 0.9)
    long, wide, low = rng.uniform(0.85, 1.05), rng.uniform(0.38, 0.46), rng.uniform(0.2, 0.26)
    waist, top = low + rng.uniform(0.24, 0.32), rng.uniform(0.72, 0.95)
    middle, wheel = 0.5 * (low + waist), rng.uniform(0.19, 0.24)
    body.box(vector(0, 0, middle), (long, wide, 0.5 * (waist - low)), lacquer, cells=5)
    rear, front = -rng.uniform(0.55, 0.85) * long, rng.uniform(0.2, 0.4) * long
    centre, half = 0.5 * (rear + front), 0.5 * (front - rear)
    cabin = [
        [centre, 0, waist - 0.01],
        [centre, 0, waist + 0.02],
        [centre - 0.06, 0, top - 0.05],
        [centre - 0.06, 0, top],
    ]
    # the four corners of a ring lie on its diagonals
    size = math.sqrt(2) * np.stack(
        [half + np.array([0.16, 0.15, 0, 0]), wide * np.array([0.97, 0.95, 0.8, 0.8])], axis=1
    )
    paints = np.stack([lacquer, palette.colour(0.55, 0.4, 0.3), roof])
    body.loft(cabin, size, paints, side=(1, 0, 0), axis=(0, 0, 1), sides=4)
    with body.raised(0.15):
        body.box(vector(long, 0, low + 0.05), (0.05, 0.9 * wide, 0.05), palette.colour(0.6, 0.05, 0.7), cells=5)
        body.box(vector(-long, 0, low + 0.05), (0.05, 0.9 * wide, 0.05), palette.colour(0.6, 0.05, 0.45), cells=5)

    for name, sign in LEFT_RIGHT:
        for end, x, roof_x in (("front", 0.62 * long, front - 0.06), ("rear", -0.62 * long, rear - 0.06)):
            hub, axle = vector(x, sign * wide, wheel), vector(0, sign, 0)
            with body.raised(0.15):
                body.disc(hub, axle, wheel, 0.07, vector(0.13, 0.13, 0.14), sides=12)
            with body.raised(0.3):
                body.disc(hub + 0.05 * axle, axle, 0.55 * wheel, 0.04, palette.mark(sign), sides=8)
            body.points[f"{name}_{end}_wheel"] = hub + 0.08 * axle
            body.points[f"{name}_{end}_roof"] = vector(roof_x, sign * 0.8 * wide, top)
        headlight, taillight = (
            vector(long + 0.02, 0.72 * sign * wide, middle + 0.05),
            vector(-long, 0.75 * sign * wide, middle),
        )
        mirror = vector(front + 0.1, sign * (wide + 0.09), waist + 0.07)
        with body.raised(0.15):
            body.ball(headlight, (0.05, 0.09, 0.075), palette.colour(0.15, 0.35, 1.0), sides=7)
            body.box(taillight, (0.025, 0.09, 0.06), palette.colour(0.98, 0.9, 0.75), cells=2)
            body.ball(mirror, (0.05, 0.07, 0.06), palette.mark(sign), sides=6)
        body.points |= {f"{name}_headlight": headlight, f"{name}_taillight": taillight, f"{name}_mirror": mirror}
    return body


def chair(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build a wooden chair with a cushion; its back is a panel or slats, and some have armrests."""
    body = Solid()
    wood, cushion = palette.colour(0.08, 0.6, 0.6), palette.colour(0.45, 0.6, 0.75)
    panel = palette.colour(0.1, 0.55, 0.85)
    deep, wide, high = rng.uniform(0.24, 0.32), rng.uniform(0.24, 0.34), rng.uniform(0.42, 0.6)
    rise, tilt, splay = rng.uniform(0.45, 0.75), rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.1)
    body.box(vector(0, 0, high), (deep, wide, 0.03), wood, cells=5)
    body.box(vector(0.02, 0, high + 0.04), (0.9 * deep, 0.88 * wide, 0.025), cushion, cells=5)
    lean = rotation(1, -tilt)
    foot_of = vector(-deep, 0, high)
    top = foot_of + lean @ vector(0, 0, rise)
    if rng.random() < 0.5:
        body.box(foot_of + lean @ vector(0, 0, 0.62 * rise), (0.02, 0.9 * wide, 0.3 * rise), panel, frame=lean, cells=4)
    else:
        for across in np.linspace(-0.6, 0.6, int(rng.integers(3, 6))):
            slat = vector(0, across * wide, 0)
            body.limb(foot_of + slat, top + slat, (0.025, 0.025), panel, sides=5)
    body.limb(top - vector(0, wide, 0), top + vector(0, wide, 0), (0.035, 0.035), wood, sides=6)
    arms = rng.random() < 0.4
    for name, sign in LEFT_RIGHT:
        post = vector(0, sign * wide, 0)
        body.limb(foot_of + post, top + post, (0.03, 0.03), wood, sides=5)
        body.ball(top + post, 0.05, palette.mark(sign), sides=7)
        body.points[f"{name}_back_top"] = top + post
        for end, x in (("front", deep), ("back", -deep)):
            corner = vector(0.93 * x, sign * 0.93 * wide, high)
            foot = vector(x * (0.93 + splay), sign * wide * (0.93 + splay), 0)
            body.limb(corner, foot, (0.035, 0.025), wood, sides=5)
            body.ball(foot, 0.038, palette.mark(sign), sides=6)
            body.points |= {f"{name}_{end}_seat": vector(x, sign * wide, high), f"{name}_{end}_foot": foot}
        if arms:
            rest = vector(0.7 * deep, sign * wide, high + 0.22)
            body.limb(foot_of + post + lean @ vector(0, 0, 0.24), rest, (0.03, 0.03), wood, sides=5)
            body.limb(rest, vector(0.7 * deep, sign * wide, high), (0.025, 0.025), wood, sides=5)
    return body


def lamp(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build a desk lamp: a base on four feet, two arms and a shade, turned at their joints."""
    body = Solid()
    metal, joint_paint = palette.colour(0.0, 0.7, 0.8), palette.colour(0.12, 0.75, 0.9)
    shade_paint, stand = palette.colour(0.5, 0.6, 0.75), palette.colour(0.6, 0.15, 0.35)
    radius = rng.uniform(0.24, 0.3)
    body.disc(vector(0, 0, 0.06), vector(0, 0, 1), radius, 0.035, stand, sides=14)
    knob = vector(0.6 * radius, 0, 0.12)
    body.ball(knob, 0.05, palette.colour(0.33, 0.8, 0.8), sides=7)
    turn = rotation(2, rng.uniform(-0.8, 0.8))
    lower, upper = rng.uniform(-0.6, 0.25), rng.uniform(0.5, 1.5)
    shoulder = vector(-0.05, 0, 0.12)
    elbow = shoulder + turn @ vector(math.sin(lower), 0, math.cos(lower)) * rng.uniform(0.45, 0.6)
    wrist = elbow + turn @ vector(math.sin(upper), 0, math.cos(upper)) * rng.uniform(0.38, 0.52)
    body.limb(shoulder, elbow, (0.035, 0.03), metal, sides=6)
    body.limb(elbow, wrist, (0.03, 0.028), metal, sides=6)
    for place in (shoulder, elbow, wrist):
        body.ball(place, 0.055, joint_paint, sides=8)
    nod = rng.uniform(0.3, 1.1)
    aim = turn @ vector(math.cos(nod), 0, -math.sin(nod))
    aside, reach, flare = turn @ vector(0, 1, 0), rng.uniform(0.2, 0.28), rng.uniform(0.15, 0.21)
    line = wrist + np.array([-0.06, -0.05, 0.05, 0.5, 1.0])[:, None] * reach * aim
    body.loft(line, flare * np.array([0.0, 0.35, 0.42, 0.75, 1.0]), shade_paint, side=aside, sides=12)
    mouth = wrist + reach * aim
    rim = mouth + np.array([-0.01, 0.01, 0.011])[:, None] * aim
    glow = palette.colour(0.15, 0.3, 1.0)
    body.loft(rim, flare * np.array([1.03, 1.03, 0.0]), np.stack([joint_paint, glow]), side=aside, sides=12)
    bulb = mouth + 0.04 * aim
    with body.raised(0.06):
        body.ball(bulb, 0.07, glow, sides=8)
    body.points |= {"switch": knob, "shoulder": shoulder, "elbow": elbow, "wrist": wrist, "bulb": bulb}
    for name, sign in LEFT_RIGHT:
        edge = mouth + sign * flare * aside
        body.ball(edge, 0.035, palette.mark(sign), sides=6)
        body.points[f"{name}_rim"] = edge
        for end, angle in (("front", 0.8), ("back", 2.3)):
            foot = vector(radius * math.cos(angle), sign * radius * math.sin(angle), 0.03)
            body.ball(foot, 0.05, palette.mark(sign), sides=6)
            body.points[f"{name}_{end}_foot"] = foot
    return body


def person(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build a standing, walking or waving person."""
    body = Solid()
    skin, shirt, trousers = palette.skin(), palette.colour(0.0, 0.75, 0.8), palette.colour(0.62, 0.6, 0.5)
    lean = rotation(1, rng.uniform(-0.1, 0.25)) @ rotation(0, rng.uniform(-0.12, 0.12))
    hips = vector(0, 0, 0.95 * rng.uniform(0.92, 1.08))
    neck = hips + lean @ vector(0, 0, 0.56 * rng.uniform(0.92, 1.1))
    head = neck + lean @ vector(0.03, 0, 0.2)
    wide, pelvis, build = rng.uniform(0.18, 0.23), rng.uniform(0.1, 0.13), rng.uniform(0.85, 1.2)
    chest = np.linspace(hips - vector(0, 0, 0.08), neck - lean @ vector(0, 0, 0.02), 7)
    girth = np.array([0.13, 0.155, 0.14, 0.15, 0.18, 0.17, 0.05])[:, None] * build * np.array([1.0, 0.62])
    body.loft(chest, girth, palette.bands(shirt, palette.colour(0.12, 0.3, 0.95), 6), sides=10)
    body.limb(neck, head, (0.055, 0.06), skin)
    body.ball(head, (0.13, 0.11, 0.095), skin, frame=rotation(1, -math.pi / 2), sides=9)
    with body.raised(-0.05):
        hair = palette.colour(0.08, 0.6, 0.25)
        body.ball(head + lean @ vector(-0.03, 0, 0.05), (0.105, 0.115, 0.11), hair, sides=9)
    body.points |= {"head_top": head + lean @ vector(0, 0, 0.13), "neck": neck}
    for name, sign in LEFT_RIGHT:
        shoulder, hip = neck + lean @ vector(0, sign * wide, -0.05), hips + vector(0, sign * pelvis, 0)
        body.limb(neck - lean @ vector(0, 0, 0.09), shoulder, (0.08 * build, 0.062 * build), shirt)
        raised, step = rng.uniform(0.1, 1.3), rng.uniform(-0.5, 0.7)
        elbow = shoulder + swing(0.29, rng.uniform(-0.6, 0.9), raised, sign)
        wrist = elbow + swing(0.26, rng.uniform(0.2, 1.6), raised * rng.uniform(0.3, 1.2), sign)
        body.limb(shoulder, elbow, (0.06 * build, 0.05), shirt)
        body.limb(elbow, wrist, (0.045, 0.035), skin)
        body.ball(wrist + 0.12 * (wrist - elbow), 0.055, palette.mark(sign), sides=7)
        knee = hip + swing(0.45, step, rng.uniform(0.0, 0.25), sign)
        ankle = knee + swing(0.43, step - rng.uniform(0.0, 0.7), rng.uniform(0.0, 0.1), sign)
        body.limb(hip, knee, (0.095 * build, 0.07), trousers)
        body.limb(knee, ankle, (0.065, 0.045), trousers)
        body.limb(ankle - vector(0.03, 0, 0.02), ankle + vector(0.15, 0, -0.03), (0.05, 0.045), palette.mark(sign))
        joints = {"shoulder": shoulder, "elbow": elbow, "wrist": wrist, "hip": hip, "knee": knee, "ankle": ankle}
        body.points |= {f"{name}_{joint}": at for joint, at in joints.items()}
    return body


def quadruped(rng: np.random.Generator, palette: Palette) -> Solid:
    """Build a four-legged animal, from dog to giraffe."""
    body = Solid()
    coat, second, dark = palette.colour(0.08, 0.6, 0.7), palette.colour(0.1, 0.25, 0.95), palette.colour(0.05, 0.5, 0.3)
    long, tall, thick = rng.uniform(0.45, 0.62), rng.uniform(0.55, 0.85), rng.uniform(0.15, 0.21)
    spine = np.linspace(vector(-long, 0, tall), vector(long, 0, tall + 0.06), 9)
    girth = thick * np.array([0.1, 0.75, 0.95, 0.9, 0.88, 0.95, 1.05, 0.9, 0.3])[:, None] * np.array([0.85, 1.05])
    body.loft(spine, girth, palette.bands(coat, second, 8), sides=10)
    turn, rise = rotation(2, rng.uniform(-0.5, 0.5)), rng.uniform(0.4, 1.3)
    head = (
        spine[7] + vector(0, 0, 0.3 * thick) + turn @ vector(math.cos(rise), 0, math.sin(rise)) * rng.uniform(0.25, 0.5)
    )
    body.limb(spine[7], head, (0.8 * thick, 0.55 * thick), coat)
    ahead = turn @ rotation(1, rng.uniform(0.0, 0.6))[:, 0]
    muzzle = head + ahead * rng.uniform(0.22, 0.32)
    body.limb(head, muzzle, (0.62 * thick, 0.38 * thick), second, sides=8)
    body.ball(muzzle + 0.1 * thick * ahead, 0.3 * thick, dark, sides=7)
    withers, rump = spine[7] + vector(-0.03, 0, 0.8 * thick), spine[0] + vector(0.02, 0, 0.5 * thick)
    tail = rump + rng.uniform(0.25, 0.4) * unit(vector(-1, rng.uniform(-0.6, 0.6), rng.uniform(-0.9, 0.9)))
    body.limb(rump, tail, (0.05, 0.03), coat, sides=5)
    body.ball(tail, 0.055, dark, sides=6)
    body.points |= {"nose": muzzle + 0.3 * thick * ahead, "withers": withers, "tail_base": rump, "tail_tip": tail}
    for name, sign in LEFT_RIGHT:
        aside = thick * turn @ vector(0, sign, 0)
        ear = head + 0.45 * aside + vector(0, 0, 0.45 * thick)
        tip = ear + 0.55 * aside + vector(0, 0, rng.uniform(0.5, 1.0) * thick)
        body.limb(ear, tip, (0.3 * thick, 0.08 * thick), palette.mark(sign), sides=5)
        body.ball(head + 0.5 * aside + 0.45 * thick * ahead, 0.13 * thick, dark, sides=5)
        body.points[f"{name}_ear"] = tip
        for end, place, bend in (("front", spine[7], -0.3), ("back", spine[1], 0.35)):
            hip = place + vector(-0.02, sign * 0.55 * thick, -0.2 * thick)
            stride, fold = rng.uniform(-0.45, 0.45), rng.uniform(0.2, 1.2)
            knee = hip + swing(0.5 * hip[2], stride + 0.5 * bend, 0.05, sign)
            paw = knee + swing(0.5 * hip[2], stride - bend * fold, 0.0, sign)
            body.limb(hip, knee, (0.075, 0.05), coat, sides=6)
            body.limb(knee, paw, (0.048, 0.04), second, sides=6)
            body.ball(paw + vector(0.02, 0, 0), (0.08, 0.05, 0.045), palette.mark(sign), sides=6)
            body.points |= {f"{name}_{end}_knee": knee, f"{name}_{end}_paw": paw}
    return body


@dataclass(frozen=True)
class Kind:
    """A category: how an individual is made, and from which directions it is seen."""

    build: Callable[[np.random.Generator, Palette], Solid]
    """builder of one individual"""
    yaw: tuple[float, float]
    """centre and half range of the viewing direction, radians; at 0 the object faces the viewer"""
    both_sides: bool = False
    """True: half of the objects are seen from the mirrored direction"""
    grounded: bool = True
    """True: the object stands on the ground and casts a shadow"""

    def keypoints(self) -> tuple[str, ...]:
        """Return the keypoint names, which all individuals share."""
        rng = np.random.default_rng(0)
        return tuple(self.build(rng, Palette(rng)).points)


KINDS: Mapping[str, Kind] = {
    "airplane": Kind(airplane, yaw=(0.0, 1.1), grounded=False),
    "bicycle": Kind(bicycle, yaw=(1.2, 0.6), both_sides=True),
    "bird": Kind(bird, yaw=(0.0, 1.0), grounded=False),
    "car": Kind(car, yaw=(0.7, 0.5), both_sides=True),
    "chair": Kind(chair, yaw=(0.0, 1.3)),
    "lamp": Kind(lamp, yaw=(0.0, 1.1)),
    "person": Kind(person, yaw=(0.0, 1.1)),
    "quadruped": Kind(quadruped, yaw=(0.8, 0.5), both_sides=True),
}
