// The pictures of this tab, the keypoints on them, and undo. Points are pixels of the picture as it is shown upright.

const KEPT = 500; // steps of undo

let lastUid = 0;

export function point(name, x, y) {
  return { uid: ++lastUid, name, x, y };
}

export class Workspace {
  constructor() {
    this.pictures = []; // {id, name, category, width, height, file, points}; `file` is null for examples
    this.sides = [null, null]; // the pictures of source and target
    this.past = [];
    this.future = [];
    this.unsaved = false;
  }

  // Adds a picture, or returns the same one that is there already.
  add(picture) {
    const known = this.pictures.find((p) => p.id === picture.id);
    if (known) return known;
    this.pictures.push(picture);
    return picture;
  }

  find(uid) {
    for (const picture of this.pictures) {
      const found = picture.points.find((p) => p.uid === uid);
      if (found) return { picture, point: found };
    }
    return null;
  }

  // Changes the points of a picture by `edit`, which may be undone. Changes of one `kind` in a row are one step.
  change(picture, edit, kind = null) {
    const before = copied(picture.points);
    edit(picture.points);
    this.record(picture, before, kind);
  }

  record(picture, before, kind = null) {
    const last = this.past.at(-1);
    const now = Date.now();
    const after = copied(picture.points);
    if (kind && last && last.kind === kind && last.picture === picture && now - last.time < 1500) {
      Object.assign(last, { after, time: now });
    } else {
      this.past.push({ picture, before, after, kind, time: now });
      this.past.splice(0, this.past.length - KEPT);
    }
    this.future = [];
    this.unsaved = true;
  }

  undo() {
    return this.step(this.past, this.future, "before");
  }

  redo() {
    return this.step(this.future, this.past, "after");
  }

  // Returns the picture that was changed; null if there is nothing to undo.
  step(from, to, which) {
    const done = from.pop();
    if (!done) return null;
    done.kind = null;
    done.picture.points = copied(done[which]);
    to.push(done);
    this.unsaved = true;
    return done.picture;
  }
}

export function copied(points) {
  return points.map((p) => ({ ...p }));
}

export function clamped(picture, x, y) {
  const round = (value, most) => Math.round(Math.min(Math.max(value, 0), most) * 100) / 100;
  return { x: round(x, picture.width), y: round(y, picture.height) };
}

// The first whole number that names no point yet.
export function freeName(points) {
  const names = new Set(points.map((p) => p.name));
  let number = 1;
  while (names.has(String(number))) number += 1;
  return String(number);
}

// A name as tables keep it: composed, one kind of blank, nothing that cannot be printed.
export function plainName(text) {
  return text.normalize("NFC").replace(/[\s\p{C}]+/gu, " ").trim();
}

// Numbers are given by the page itself: equal ones on both sides do not mean the same thing.
export function isChosenName(name) {
  return !/^\d+$/.test(name);
}
