"""The kinds of objects of the `demo` data set: each builder draws one individual, with proportions, pose and paint of
its own, and names its keypoints.

Units are arbitrary (an object is fitted to the picture later). What a matcher can learn: every part has a colour family
that varies from one individual to the next, and paired parts carry a weak mark, warm on the left, cool on the right.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nmt.data.demo_mesh import Array, Solid, rotation, unit, vector

LEFT_RIGHT = (("left", 1.0), ("right", -1.0))
"""Names of the twins and the sign of their y."""

HUE_SPREAD, HUE_JITTER, TONE_JITTER = 0.10, 0.03, 0.12
"""Standard deviations: hue of a whole individual, hue of one part, saturation and value of one part."""


class Palette:
    """The paints of one individual."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._shift = rng.normal(0, HUE_SPREAD)

    def colour(self, hue: float, saturation: float, value: float) -> Array:
        """RGB near the given one (hue in turns): shifted with the individual, jittered by itself."""
        jitter = self._rng.normal(0, 1, 3)
        turned = (hue + self._shift + HUE_JITTER * jitter[0]) % 1.0
        strong = float(np.clip(saturation + TONE_JITTER * jitter[1], 0, 1))
        bright = float(np.clip(value + TONE_JITTER * jitter[2], 0.12, 1))
        return np.array(colorsys.hsv_to_rgb(turned, strong, bright))

    def mark(self, sign: float) -> Array:
        """The paint of small paired parts: warm on the left (sign 1), cool on the right (sign -1)."""
        hue = (0.03 if sign > 0 else 0.55) + 0.03 * self._rng.normal()
        return np.array(colorsys.hsv_to_rgb(hue % 1.0, self._rng.uniform(0.65, 0.95), self._rng.uniform(0.75, 1.0)))

    def skin(self) -> Array:
        """A human skin tone, light to dark."""
        depth = self._rng.random()
        return np.array(colorsys.hsv_to_rgb(0.07 - 0.02 * depth, 0.35 + 0.3 * depth, 0.95 - 0.55 * depth))

    def bands(self, first: Array, second: Array, count: int) -> Array:
        """(count, 3): plain, or striped with the second paint."""
        if self._rng.random() < 0.5:
            return np.tile(first, (count, 1))
        width = int(self._rng.integers(1, 3))
        return np.where((np.arange(count) // width % 2 == 0)[:, None], first, second)


def swing(length: float, forward: float, outward: float, sign: float) -> Array:
    """A hanging limb of `length` raised by `forward` radians to the front and `outward` away from the body's middle."""
    sideways = sign * math.sin(outward)
    return length * vector(math.sin(forward) * math.cos(outward), sideways, -math.cos(forward) * math.cos(outward))


def person(rng: np.random.Generator, palette: Palette) -> Solid:
    """A standing, walking or waving figure."""
    body = Solid()
    skin, shirt = palette.skin(), palette.colour(0.0, 0.75, 0.8)
    trousers, hair = palette.colour(0.62, 0.6, 0.5), palette.colour(0.08, 0.6, 0.25)
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
    body.lift = -0.05
    body.ball(head + lean @ vector(-0.03, 0, 0.05), (0.105, 0.115, 0.11), hair, sides=9)
    body.lift = 0.0
    body.points |= {"head_top": head + lean @ vector(0, 0, 0.13), "neck": neck}
    for name, sign in LEFT_RIGHT:
        shoulder = neck + lean @ vector(0, sign * wide, -0.05)
        raised = rng.uniform(0.1, 1.3)
        elbow = shoulder + swing(0.29, rng.uniform(-0.6, 0.9), raised, sign)
        wrist = elbow + swing(0.26, rng.uniform(0.2, 1.6), raised * rng.uniform(0.3, 1.2), sign)
        body.limb(neck - lean @ vector(0, 0, 0.09), shoulder, (0.08 * build, 0.062 * build), shirt)
        body.limb(shoulder, elbow, (0.06 * build, 0.05), shirt)
        body.limb(elbow, wrist, (0.045, 0.035), skin)
        body.ball(wrist + 0.12 * (wrist - elbow), 0.055, palette.mark(sign), sides=7)
        hip = hips + vector(0, sign * pelvis, 0)
        step = rng.uniform(-0.5, 0.7)
        knee = hip + swing(0.45, step, rng.uniform(0.0, 0.25), sign)
        ankle = knee + swing(0.43, step - rng.uniform(0.0, 0.7), rng.uniform(0.0, 0.1), sign)
        body.limb(hip, knee, (0.095 * build, 0.07), trousers)
        body.limb(knee, ankle, (0.065, 0.045), trousers)
        body.limb(ankle - vector(0.03, 0, 0.02), ankle + vector(0.15, 0, -0.03), (0.05, 0.045), palette.mark(sign))
        joints = {"shoulder": shoulder, "elbow": elbow, "wrist": wrist, "hip": hip, "knee": knee, "ankle": ankle}
        body.points |= {f"{name}_{joint}": at for joint, at in joints.items()}
    return body


def quadruped(rng: np.random.Generator, palette: Palette) -> Solid:
    """A four-legged animal, from dog to giraffe."""
    body = Solid()
    coat, second = palette.colour(0.08, 0.6, 0.7), palette.colour(0.1, 0.25, 0.95)
    dark = palette.colour(0.05, 0.5, 0.3)
    long, tall, thick = rng.uniform(0.45, 0.62), rng.uniform(0.55, 0.85), rng.uniform(0.15, 0.21)
    spine = np.stack([np.linspace(-long, long, 9), np.zeros(9), tall + np.linspace(0, 0.06, 9)], axis=1)
    girth = thick * np.array([0.1, 0.75, 0.95, 0.9, 0.88, 0.95, 1.05, 0.9, 0.3])[:, None] * np.array([0.85, 1.05])
    coats = palette.bands(coat, second, 8)
    body.loft(spine, girth, coats, sides=10)
    withers, rump = spine[7] + vector(-0.03, 0, 0.8 * thick), spine[0] + vector(0.02, 0, 0.5 * thick)
    turn = rotation(2, rng.uniform(-0.5, 0.5))
    rise = rng.uniform(0.4, 1.3)
    neck = turn @ vector(math.cos(rise), 0, math.sin(rise)) * rng.uniform(0.25, 0.5)
    head = spine[7] + vector(0, 0, 0.3 * thick) + neck
    ahead = turn @ rotation(1, rng.uniform(0.0, 0.6)) @ vector(1, 0, 0)
    nose = head + ahead * rng.uniform(0.22, 0.32)
    body.limb(spine[7], head, (0.8 * thick, 0.55 * thick), coat)
    body.limb(head, nose, (0.62 * thick, 0.38 * thick), second, sides=8)
    body.ball(nose + 0.1 * thick * ahead, 0.3 * thick, dark, sides=7)
    tail = rump + rng.uniform(0.25, 0.4) * unit(vector(-1, rng.uniform(-0.6, 0.6), rng.uniform(-0.9, 0.9)))
    body.limb(rump, tail, (0.05, 0.03), coat, sides=5)
    body.ball(tail, 0.055, dark, sides=6)
    body.points |= {"nose": nose + 0.3 * thick * ahead, "withers": withers, "tail_base": rump, "tail_tip": tail}
    for name, sign in LEFT_RIGHT:
        aside = turn @ vector(0, sign, 0)
        ear = head + 0.45 * thick * aside + vector(0, 0, 0.45 * thick)
        tip = ear + 0.55 * thick * aside + vector(0, 0, rng.uniform(0.5, 1.0) * thick)
        body.limb(ear, tip, (0.3 * thick, 0.08 * thick), palette.mark(sign), sides=5)
        body.ball(head + 0.5 * thick * aside + 0.45 * thick * ahead, 0.13 * thick, dark, sides=5)
        body.points[f"{name}_ear"] = tip
        for end, place, bend in (("front", spine[7], -0.3), ("back", spine[1], 0.35)):
            hip = place + vector(-0.02, sign * 0.55 * thick, -0.2 * thick)
            stride = rng.uniform(-0.45, 0.45)
            drop = 0.5 * hip[2]
            knee = hip + swing(drop, stride + 0.5 * bend, 0.05, sign)
            paw = knee + swing(drop, stride - bend * rng.uniform(0.2, 1.2), 0.0, sign)
            body.limb(hip, knee, (0.075, 0.05), coat, sides=6)
            body.limb(knee, paw, (0.048, 0.04), second, sides=6)
            body.limb(
                paw - vector(0.02, 0, 0), paw + vector(0.05, 0, -0.01), (0.05, 0.045), palette.mark(sign), sides=6
            )
            body.points |= {f"{name}_{end}_knee": knee, f"{name}_{end}_paw": paw}
    return body


def bird(rng: np.random.Generator, palette: Palette) -> Solid:
    """A bird with its wings half or fully open."""
    body = Solid()
    back, breast = palette.colour(0.6, 0.65, 0.75), palette.colour(0.1, 0.65, 0.95)
    tip_paint, yellow, dark = palette.colour(0.65, 0.6, 0.35), palette.colour(0.13, 0.85, 0.95), vector(0.1, 0.1, 0.12)
    pitch = rotation(1, -rng.uniform(0.0, 0.7))
    plump, long = rng.uniform(0.17, 0.24), rng.uniform(0.4, 0.5)
    spine = (pitch @ np.stack([np.linspace(-long, long, 8), np.zeros(8), np.zeros(8)])).T
    girth = plump * np.array([0.15, 0.55, 0.85, 1.0, 1.02, 0.9, 0.6, 0.25])
    body.loft(spine, girth, np.concatenate([np.tile(back, (4, 1)), np.tile(breast, (3, 1))]), sides=10)
    chest = spine[5] - pitch @ vector(0, 0, 0.9 * plump)
    head = spine[7] + vector(0.04, 0, rng.uniform(0.06, 0.16))
    gaze = rotation(2, rng.uniform(-0.5, 0.5))
    body.ball(head, 0.62 * plump, back, sides=9)
    beak = head + gaze @ vector(0.62 * plump + rng.uniform(0.12, 0.22), 0, -0.02)
    body.limb(head + gaze @ vector(0.45 * plump, 0, 0), beak, (0.06, 0.012), yellow, sides=6)
    crest = head + vector(-0.05, 0, 0.62 * plump + rng.uniform(0.03, 0.12))
    body.limb(head + vector(0, 0, 0.45 * plump), crest, (0.05, 0.015), breast, sides=5)
    tail = spine[0] + pitch @ vector(-rng.uniform(0.22, 0.38), 0, rng.uniform(-0.05, 0.1))
    fan = np.linspace(spine[1], tail, 5)
    spread = np.array([[0.05, 0.05], [0.07, 0.03], [0.1, 0.025], [0.13, 0.02], [0.1, 0.005]])
    body.loft(fan, spread, palette.bands(tip_paint, back, 4), sides=6)
    body.points |= {"beak": beak, "crest": crest, "breast": chest, "tail": tail}
    rise, sweep, span = rng.uniform(-0.3, 0.9), rng.uniform(-0.1, 0.6), rng.uniform(0.6, 0.85)
    for name, sign in LEFT_RIGHT:
        shoulder = spine[5] + vector(-0.02, sign * 0.75 * plump, 0.3 * plump)
        raised = rise + rng.uniform(-0.2, 0.2)
        reach = pitch @ vector(-math.sin(sweep), sign * math.cos(sweep) * math.cos(raised), math.sin(raised))
        bend = shoulder + 0.45 * span * reach + pitch @ vector(0.08, 0, 0.05)
        tip = shoulder + span * reach + pitch @ vector(-0.15, 0, 0)
        line = np.concatenate([np.linspace(shoulder, bend, 4), np.linspace(bend, tip, 4)[1:]])
        chord = np.array([0.12, 0.15, 0.16, 0.165, 0.15, 0.11, 0.03])[:, None] * np.array([1.0, 0.12])
        feathers = np.stack([back, back, breast, palette.mark(sign), tip_paint, tip_paint])
        body.loft(line, chord, feathers, side=pitch[:, 0], sides=6)
        eye = head + gaze @ vector(0.35 * plump, sign * 0.5 * plump, 0.15 * plump)
        body.ball(eye, 0.045, dark, sides=6)
        hip = spine[3] + vector(0, sign * 0.45 * plump, -0.75 * plump)
        foot = hip + swing(rng.uniform(0.18, 0.26), rng.uniform(-0.4, 0.4), 0.1, sign)
        body.limb(hip, foot, (0.035, 0.02), yellow, sides=5)
        body.limb(foot - vector(0.03, 0, 0), foot + vector(0.09, 0, -0.01), (0.03, 0.02), palette.mark(sign), sides=5)
        body.points |= {f"{name}_wing_bend": bend, f"{name}_wing_tip": tip, f"{name}_eye": eye, f"{name}_foot": foot}
    return body


def airplane(rng: np.random.Generator, palette: Palette) -> Solid:
    """An airliner with two or so engines under the wings."""
    body = Solid()
    hull, trim = palette.colour(0.58, 0.12, 0.95), palette.colour(0.6, 0.75, 0.7)
    metal, glass = palette.colour(0.6, 0.08, 0.6), palette.colour(0.55, 0.55, 0.25)
    long, radius = rng.uniform(0.9, 1.1), rng.uniform(0.1, 0.15)
    x = np.array([-1.0, -0.93, -0.7, -0.45, -0.2, 0.05, 0.3, 0.55, 0.78, 0.92, 1.0]) * long
    z = np.array([0.6, 0.5, 0.25, 0.05, 0, 0, 0, 0, -0.05, -0.15, -0.25]) * radius
    size = np.array([0.02, 0.25, 0.6, 0.9, 1, 1, 1, 1, 0.85, 0.55, 0.02]) * radius
    skin = np.tile(hull, (10, 1))
    skin[:2], skin[8:9] = trim, trim
    if rng.random() < 0.5:
        skin[4:6] = trim
    body.loft(np.stack([x, 0 * x, z], axis=1), size, skin, sides=12)
    body.lift = 0.1
    body.ball(vector(0.8 * long, 0, 0.5 * radius), (0.13, 0.75 * radius, 0.5 * radius), glass)
    body.lift = 0.0
    fin_root = vector(-0.78 * long, 0, 0.6 * radius)
    fin_top = fin_root + vector(-rng.uniform(0.15, 0.3), 0, rng.uniform(0.3, 0.45))
    chord = np.array([0.2, 0.17, 0.14, 0.1])[:, None] * np.array([1.0, 0.09])
    body.loft(np.linspace(fin_root, fin_top, 4), chord, palette.bands(trim, hull, 3), side=(1, 0, 0), sides=6)
    body.points |= {"nose": vector(x[-1], 0, z[-1]), "cockpit": vector(0.86 * long, 0, 0.9 * radius)}
    body.points |= {"fin_top": fin_top, "tail": vector(x[0], 0, z[0])}
    span, sweep, rise = rng.uniform(0.75, 1.05), rng.uniform(0.1, 0.5), rng.uniform(0.0, 0.2)
    mount, small = rng.uniform(0.32, 0.42), rng.uniform(0.32, 0.42)
    for name, sign in LEFT_RIGHT:
        root = vector(0.15 * long, sign * 0.6 * radius, -0.4 * radius)
        tip = root + vector(-sweep, sign * span, rise)
        line = np.linspace(root, tip, 7)
        wide = np.linspace(0.24, 0.08, 7)[:, None] * np.array([1.0, 0.1])
        panels = np.tile(hull, (6, 1))
        panels[3], panels[5] = trim, palette.mark(sign)
        body.loft(line, wide, panels, side=(1, 0, 0), sides=6)
        hung = root + mount * (tip - root) + vector(0.12, 0, -0.1)
        body.limb(hung - vector(0.16, 0, 0), hung + vector(0.12, 0, 0), (0.045, 0.075), metal, sides=8)
        body.disc(hung + vector(0.16, 0, 0), vector(1, 0, 0), 0.07, 0.02, palette.mark(sign), sides=8)
        base = vector(-0.85 * long, sign * 0.2 * radius, 0.5 * radius)
        end = base + vector(-0.4 * sweep - 0.05, sign * small, 0.3 * rise)
        thin = np.linspace(0.14, 0.07, 4)[:, None] * np.array([1.0, 0.1])
        body.loft(np.linspace(base, end, 4), thin, np.stack([trim, trim, palette.mark(sign)]), side=(1, 0, 0), sides=6)
        wing_root = root + vector(0.22, sign * 0.4 * radius, 0)
        names = {"wing_root": wing_root, "wing_tip": tip, "engine": hung + vector(0.17, 0, 0), "tailplane_tip": end}
        body.points |= {f"{name}_{part}": at for part, at in names.items()}
    return body


def car(rng: np.random.Generator, palette: Palette) -> Solid:
    """A car with its lamps, mirrors and four wheels."""
    body = Solid()
    lacquer, roof = palette.colour(0.0, 0.8, 0.8), palette.colour(0.02, 0.55, 0.9)
    glass, rubber = palette.colour(0.55, 0.4, 0.3), vector(0.13, 0.13, 0.14)
    long, wide, low = rng.uniform(0.85, 1.05), rng.uniform(0.38, 0.46), rng.uniform(0.2, 0.26)
    waist, top = low + rng.uniform(0.24, 0.32), rng.uniform(0.72, 0.95)
    middle = 0.5 * (low + waist)
    body.box(vector(0, 0, middle), (long, wide, 0.5 * (waist - low)), lacquer, cells=5)
    rear, front = -rng.uniform(0.55, 0.85) * long, rng.uniform(0.2, 0.4) * long
    cabin = np.array([[0.5 * (rear + front), 0, h] for h in (waist - 0.01, waist + 0.02, top - 0.05, top, top + 0.005)])
    cabin[2:, 0] -= 0.06
    half = 0.5 * (front - rear)
    rake = math.sqrt(2) * np.array(
        [[half + 0.16, 0.97 * wide], [half + 0.15, 0.95 * wide], [half, 0.8 * wide], [half, 0.8 * wide], [0, 0]]
    )
    body.loft(cabin, rake, np.stack([lacquer, glass, roof, roof]), side=(1, 0, 0), axis=(0, 0, 1), sides=4)
    body.lift = 0.15
    body.box(vector(long, 0, low + 0.05), (0.05, 0.9 * wide, 0.05), palette.colour(0.6, 0.05, 0.7), cells=5)
    body.box(vector(-long, 0, low + 0.05), (0.05, 0.9 * wide, 0.05), palette.colour(0.6, 0.05, 0.45), cells=5)
    wheel = rng.uniform(0.19, 0.24)
    for name, sign in LEFT_RIGHT:
        for end, x in (("front", 0.62 * long), ("rear", -0.62 * long)):
            hub = vector(x, sign * wide, wheel)
            body.disc(hub, vector(0, 1, 0), wheel, 0.07, rubber, sides=12)
            body.lift = 0.3
            body.disc(hub + vector(0, sign * 0.05, 0), vector(0, 1, 0), 0.55 * wheel, 0.04, palette.mark(sign), sides=8)
            body.lift = 0.15
            body.points[f"{name}_{end}_wheel"] = hub + vector(0, sign * 0.08, 0)
            roof_x = cabin[3, 0] + half * (1 if end == "front" else -1)
            body.points[f"{name}_{end}_roof"] = vector(roof_x, sign * 0.8 * wide, top)
        head = vector(long + 0.02, sign * 0.72 * wide, middle + 0.05)
        tail = vector(-long - 0.01, sign * 0.75 * wide, middle + 0.06)
        body.ball(head, (0.05, 0.09, 0.075), palette.colour(0.15, 0.35, 1.0), sides=7)
        body.box(tail, (0.025, 0.09, 0.06), palette.colour(0.98, 0.9, 0.75), cells=2)
        mirror = vector(front + 0.1, sign * (wide + 0.09), waist + 0.07)
        body.ball(mirror, (0.05, 0.07, 0.06), palette.mark(sign), sides=6)
        body.points |= {f"{name}_headlight": head, f"{name}_taillight": tail, f"{name}_mirror": mirror}
    return body


def chair(rng: np.random.Generator, palette: Palette) -> Solid:
    """A wooden chair with a cushion; the back is a panel or slats, some have armrests."""
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


def bicycle(rng: np.random.Generator, palette: Palette) -> Solid:
    """A bicycle; handlebar and cranks are turned."""
    body = Solid()
    frame, steel = palette.colour(0.35, 0.75, 0.75), palette.colour(0.6, 0.06, 0.75)
    rubber, leather = vector(0.15, 0.15, 0.16), palette.colour(0.07, 0.65, 0.4)
    wheel, base = rng.uniform(0.3, 0.36), rng.uniform(0.48, 0.58)
    seat_height, grip_height = rng.uniform(0.78, 0.98), rng.uniform(0.8, 1.05)
    rear, front, crank = vector(-base, 0, wheel), vector(base, 0, wheel), vector(-0.08, 0, 0.9 * wheel)
    saddle = vector(-0.27, 0, seat_height)
    head = vector(base - 0.2, 0, grip_height - 0.12)
    steer = rotation(2, rng.uniform(-0.5, 0.5))
    around = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    for hub, turned in ((rear, np.eye(3)), (front, steer)):
        rim = (turned @ np.stack([np.cos(around), 0 * around, np.sin(around)])).T
        body.loft(hub + wheel * rim, np.full(20, 0.032), rubber, side=turned[:, 1], sides=5, closed=True)
        for spoke in rim[:: int(rng.integers(2, 4))]:
            body.limb(hub, hub + wheel * spoke, (0.01, 0.01), steel, sides=3)
        body.limb(hub - 0.05 * turned[:, 1], hub + 0.05 * turned[:, 1], (0.045, 0.045), steel, sides=6)
    joint = saddle + 0.3 * (crank - saddle)
    for start, end in ((crank, saddle), (joint, head), (crank, head), (crank, rear), (joint, rear)):
        body.limb(start, end, (0.028, 0.026), frame, sides=6)
    body.limb(head + vector(-0.03, 0, 0.1), front, (0.026, 0.022), frame, sides=6)
    body.limb(saddle - vector(0.1, 0, -0.02), saddle + vector(0.14, 0, 0.01), (0.07, 0.03), leather, sides=7)
    stem = head + vector(-0.03, 0, 0.12)
    lamp = head + steer @ vector(0.09, 0, 0.02)
    body.ball(lamp, 0.055, palette.colour(0.15, 0.8, 1.0), sides=8)
    body.points |= {"rear_hub": rear, "front_hub": front, "saddle": saddle, "crank": crank, "stem": stem, "lamp": lamp}
    turn = rng.uniform(0, 2 * math.pi)
    for name, sign in LEFT_RIGHT:
        grip = stem + steer @ vector(rng.uniform(-0.08, 0.02), sign * rng.uniform(0.2, 0.28), 0.03)
        body.limb(stem, grip, (0.02, 0.02), steel, sides=5)
        body.limb(grip + 0.35 * (stem - grip), grip, (0.035, 0.035), palette.mark(sign), sides=6)
        pedal = crank + vector(sign * 0.15 * math.cos(turn), sign * 0.1, sign * 0.15 * math.sin(turn))
        body.limb(crank + vector(0, sign * 0.07, 0), pedal, (0.018, 0.018), steel, sides=4)
        body.box(pedal + vector(0, sign * 0.05, 0), (0.06, 0.05, 0.02), palette.mark(sign), cells=1)
        body.points |= {f"{name}_grip": grip, f"{name}_pedal": pedal}
    return body


def lamp(rng: np.random.Generator, palette: Palette) -> Solid:
    """A desk lamp: a base on four feet, two arms and a shade that turn at their joints."""
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
    body.lift = 0.06
    body.ball(bulb, 0.07, glow, sides=8)
    body.lift = 0.0
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


@dataclass(frozen=True)
class Kind:
    """A category: how an individual is made and from where it is looked at."""

    build: Callable[[np.random.Generator, Palette], Solid]
    keypoints: tuple[str, ...]
    yaw: tuple[float, float]
    """centre and half range of the view, radians; 0 looks it in the face"""
    mirrored_yaw: bool = False
    """the view is as often from the other side"""
    grounded: bool = True
    """stands on the ground, so it throws a shadow there"""


def _kind(build: Callable[[np.random.Generator, Palette], Solid], **view: object) -> Kind:
    rng = np.random.default_rng(0)
    return Kind(build, tuple(build(rng, Palette(rng)).points), **view)  # type: ignore[arg-type]


KINDS: Mapping[str, Kind] = {
    "airplane": _kind(airplane, yaw=(0.0, 1.1), grounded=False),
    "bicycle": _kind(bicycle, yaw=(1.2, 0.6), mirrored_yaw=True),
    "bird": _kind(bird, yaw=(0.0, 1.0), grounded=False),
    "car": _kind(car, yaw=(0.7, 0.5), mirrored_yaw=True),
    "chair": _kind(chair, yaw=(0.0, 1.3)),
    "lamp": _kind(lamp, yaw=(0.0, 1.1)),
    "person": _kind(person, yaw=(0.0, 1.1)),
    "quadruped": _kind(quadruped, yaw=(0.8, 0.5), mirrored_yaw=True),
}
