// One side of the page: a picture, its keypoints as buttons over it, and the buttons around it.

import { clamped, copied, freeName, point } from "./points.js";
import { pictureAddress } from "./server.js";

// Fills a list with options, unless it has them: a list that is open would close.
export function refill(list, texts) {
  if (texts.length !== list.children.length || texts.some((text, k) => list.children[k].text !== text)) {
    list.replaceChildren(...texts.map((text) => new Option(text)));
  }
}

const NAMES = ["Source", "Target"];

export class Panel {
  // `page` is what the panel tells of the user's wishes: see page.js.
  constructor(side, page) {
    this.side = side;
    this.page = page;
    this.buttons = new Map(); // uid -> button
    const made = document.getElementById("panel").content.cloneNode(true);
    this.root = made.querySelector(".panel");
    for (const name of ["pictures", "open", "file", "empty", "view", "frame", "points", "add", "load", "save", "clear", "category"]) {
      this[name] = made.querySelector(`.${name}`);
    }
    this.pointsFile = made.querySelector(".points-file");
    this.image = made.querySelector("img");
    const title = NAMES[side];
    made.querySelector("h2").textContent = title;
    this.root.setAttribute("aria-label", `${title} picture`);
    this.root.id = title.toLowerCase();
    this.pictures.setAttribute("aria-label", `${title} picture`);
    for (const [element, what] of [[this.open, "Open"], [this.add, "Add a keypoint to"], [this.load, "Load keypoints of"],
      [this.save, "Save keypoints of"], [this.clear, "Clear keypoints of"]]) {
      element.setAttribute("aria-label", `${what} the ${title.toLowerCase()} picture`);
    }
    this.category.setAttribute("aria-label", `Category of the ${title.toLowerCase()} picture`);
    this.listen();
  }

  get picture() {
    return this.page.work.sides[this.side];
  }

  listen() {
    const { page } = this;
    const choose = (input, use) => () => {
      input.onchange = () => {
        use([...input.files]);
        input.value = "";
      };
      input.click();
    };
    this.open.onclick = this.empty.onclick = choose(this.file, (files) => page.openFiles(files, this.side));
    this.load.onclick = choose(this.pointsFile, (files) => page.openFiles(files, this.side));
    this.save.onclick = () => page.saveKeypoints(this.picture);
    this.clear.onclick = () => page.edit(this.picture, (points) => points.splice(0));
    this.add.onclick = () => this.addPoint(this.picture.width / 2, this.picture.height / 2);
    this.pictures.onchange = () => page.show(this.side, page.work.pictures[this.pictures.selectedIndex]);
    this.category.onchange = () => page.setCategory(this.picture, this.category.value);
    this.root.onpointerdown = this.root.onfocusin = () => (page.active = this.side);
    this.frame.onclick = (event) => {
      if (event.target !== this.image) return;
      const { x, y } = this.toPicture(event);
      this.addPoint(x, y);
    };
    this.frame.oncontextmenu = (event) => event.preventDefault();
    this.root.ondragover = (event) => {
      event.preventDefault();
      this.root.classList.add("over");
    };
    this.root.ondragleave = (event) => {
      if (!this.root.contains(event.relatedTarget)) this.root.classList.remove("over");
    };
    this.root.ondrop = (event) => {
      event.preventDefault();
      this.root.classList.remove("over");
      page.openFiles([...event.dataTransfer.files], this.side);
    };
  }

  toPicture(event) {
    const box = this.image.getBoundingClientRect();
    const { width, height } = this.picture;
    return clamped(this.picture, ((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height);
  }

  addPoint(x, y) {
    const { page, picture } = this;
    if (picture.points.length >= page.limits.points) {
      page.fail(`A picture takes at most ${page.limits.points} keypoints.`);
      return;
    }
    const at = clamped(picture, x, y);
    const made = point(freeName(picture.points), at.x, at.y);
    page.edit(picture, (points) => points.push(made));
    page.select(made.uid, true);
  }

  // Draws all that depends on the picture and its points; buttons that stay keep the focus.
  draw() {
    const { picture } = this;
    this.empty.hidden = Boolean(picture);
    this.frame.hidden = !picture;
    for (const element of [this.add, this.load, this.category]) element.disabled = !picture;
    for (const element of [this.save, this.clear]) element.disabled = !picture?.points.length;
    const all = this.page.work.pictures;
    this.pictures.hidden = all.length === 0;
    refill(this.pictures, all.map((p) => `${p.name} (${p.points.length})`));
    this.pictures.selectedIndex = all.indexOf(picture);
    if (document.activeElement !== this.category) this.category.value = picture?.category ?? "";
    if (!picture) return this.drawPoints([]);
    if (this.image.getAttribute("src") !== pictureAddress(picture.id)) this.image.src = pictureAddress(picture.id);
    this.image.alt = picture.name;
    this.frame.setAttribute("aria-label", `${NAMES[this.side]} picture ${picture.name}, ${picture.points.length} keypoints`);
    this.layout();
    this.drawPoints(picture.points);
  }

  // Fits the picture into its half of the page, small pictures enlarged.
  layout() {
    const { picture } = this;
    if (!picture) return;
    const scale = Math.min(this.view.clientWidth / picture.width, Math.max(260, innerHeight * 0.62) / picture.height);
    this.frame.style.width = `${Math.max(1, picture.width * scale)}px`;
    this.frame.style.height = `${Math.max(1, picture.height * scale)}px`;
  }

  drawPoints(points) {
    const kept = new Set(points.map((p) => p.uid));
    for (const [uid, button] of this.buttons) {
      if (!kept.has(uid)) {
        button.remove();
        this.buttons.delete(uid);
      }
    }
    for (const p of points) {
      const button = this.buttons.get(p.uid) ?? this.makeButton(p.uid);
      const { picture, page } = this;
      button.style.left = `${(p.x / picture.width) * 100}%`;
      button.style.top = `${(p.y / picture.height) * 100}%`;
      button.classList.toggle("left", p.x > picture.width * 0.75);
      button.firstChild.textContent = p.name;
      button.setAttribute("aria-pressed", page.selected === p.uid);
      const { text, colour } = page.describe(this.side, p);
      button.setAttribute("aria-label", `${p.name}, x ${Math.round(p.x)}, y ${Math.round(p.y)}${text}`);
      button.classList.toggle("none", !colour);
      if (colour) button.style.setProperty("--dot", colour);
    }
    points.forEach((p, k) => {
      if (this.points.children[k] !== this.buttons.get(p.uid)) this.points.insertBefore(this.buttons.get(p.uid), this.points.children[k]);
    });
  }

  makeButton(uid) {
    const { page } = this;
    const button = document.createElement("button");
    button.className = "point";
    button.append(document.createElement("span"));
    this.buttons.set(uid, button);
    button.onfocus = () => page.select(uid);
    button.onclick = () => page.select(uid);
    button.oncontextmenu = (event) => {
      event.preventDefault();
      page.remove(uid);
    };
    button.onpointerdown = (event) => {
      if (event.button === 0) this.drag(event, uid, button);
    };
    return button;
  }

  drag(event, uid, button) {
    const { page, picture } = this;
    const start = { x: event.clientX, y: event.clientY };
    const from = page.work.find(uid).point;
    const offset = { x: from.x, y: from.y };
    const grabbed = this.toPicture(event);
    const before = copied(picture.points);
    let moved = false;
    button.focus({ preventScroll: true });
    button.setPointerCapture(event.pointerId);
    button.onpointermove = (move) => {
      if (!moved && Math.hypot(move.clientX - start.x, move.clientY - start.y) < 3) return;
      moved = true;
      const now = this.toPicture(move);
      const p = page.work.find(uid)?.point;
      if (p) Object.assign(p, clamped(picture, offset.x + now.x - grabbed.x, offset.y + now.y - grabbed.y));
      page.moved();
    };
    button.onpointerup = button.onpointercancel = () => {
      button.onpointermove = button.onpointerup = button.onpointercancel = null;
      if (moved) {
        page.work.record(picture, before);
        page.changed();
      }
    };
  }

  // The middle of a point on the screen, or null.
  position(uid) {
    const box = this.buttons.get(uid)?.getBoundingClientRect();
    return box ? { x: box.left + box.width / 2, y: box.top + box.height / 2 } : null;
  }
}
