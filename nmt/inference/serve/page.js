// The page: what the user does, the matches of what is on both pictures now, and how they are drawn.

import { download, imageName, named, table, zip } from "./files.js";
import { Panel, refill } from "./panel.js";
import { Workspace, clamped, isChosenName, plainName, point } from "./points.js";
import * as server from "./server.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const KEYPOINT_FILE = /\.(csv|tsv|txt|json)$/i;
const RAMP = ["--low", "--middle", "--high"];
const FEW = 0.5; // share of the keypoints below which the page doubts that the pictures show the same object
const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

class Page {
  constructor() {
    this.work = new Workspace();
    this.limits = { bytes: Infinity, points: 200 };
    this.known = {}; // category -> names of its keypoints, as the matcher was trained
    this.selected = null; // uid of a point
    this.active = 0; // the side that was used last
    this.matches = []; // {source, target, confidence}, uids
    this.answer = null; // what the server said last; null before
    this.asking = this.again = false;
    this.examples = []; // {label, sides}
    this.panels = [0, 1].map((side) => new Panel(side, this));
    for (const panel of this.panels) $("stage").insertBefore(panel.root, $("lines"));
    this.listen();
    this.draw();
  }

  async start() {
    const info = await server.info();
    this.limits = info.limits;
    this.known = info.keypointNames;
    $("run").textContent = info.name;
    $("threshold").value = info.threshold;
    $("measure").textContent = info.calibrated ? "Confidence" : "Raw score";
    this.drawMatches();
    if (info.examples) await this.listExamples();
  }

  async listExamples() {
    this.examples = (await server.examples()).pairs;
    $("examples").append(...this.examples.map((pair, k) => new Option(pair.label, k)));
    $("examples-label").hidden = this.examples.length === 0;
    this.draw();
  }

  listen() {
    const doing = (work) => () => this.attempt(work);
    $("examples").onchange = doing(() => this.showExample());
    $("first-example").onclick = () => {
      $("examples").value = "0";
      this.showExample();
    };
    $("undo").onclick = () => this.afterStep(this.work.undo());
    $("redo").onclick = () => this.afterStep(this.work.redo());
    $("swap").onclick = () => {
      this.work.sides.reverse();
      this.changed();
    };
    $("save-all").onclick = doing(() => this.saveAll());
    $("labels").onchange = () => $("stage").classList.toggle("bare", !$("labels").checked);
    $("threshold").oninput = () => this.drawMatches();
    const typed = (use) => () => {
      use();
      this.drawChosen(this.work.find(this.selected)?.point, true);
    };
    $("name").onchange = typed(() => this.rename($("name").value));
    $("name").onkeydown = (event) => {
      if (event.key === "Enter") this.focusPoint(this.selected);
    };
    $("x").onchange = $("y").onchange = typed(() => this.moveTo(Number($("x").value), Number($("y").value)));
    $("delete").onclick = () => this.remove(this.selected);
    document.onkeydown = (event) => this.key(event);
    document.onpaste = (event) => {
      const files = [...event.clipboardData.files];
      if (files.length) this.openFiles(files, this.freeSide());
    };
    // A file that misses the panels must not replace the page.
    document.ondragover = document.ondrop = (event) => event.preventDefault();
    new ResizeObserver(() => this.layout()).observe($("stage"));
    addEventListener("resize", () => this.layout());
    matchMedia("(prefers-color-scheme: dark)").onchange = () => this.draw();
    addEventListener("beforeunload", (event) => {
      if (this.work.unsaved) event.preventDefault();
    });
  }

  // --- errors ---

  fail(message) {
    $("error").textContent = message;
    $("error").hidden = false;
  }

  async attempt(work) {
    $("error").hidden = true;
    try {
      return await work();
    } catch (error) {
      this.fail(error.message);
      return null;
    }
  }

  // --- pictures ---

  freeSide() {
    const empty = this.work.sides.indexOf(null);
    return empty < 0 ? this.active : empty;
  }

  show(side, picture) {
    this.work.sides[side] = picture;
    this.active = side;
    this.selected = null;
    this.changed();
  }

  // Opens pictures and keypoint files on a side; of several pictures the next fills the other side if it is empty.
  async openFiles(files, side) {
    await this.attempt(async () => {
      let first = true;
      for (const file of files) {
        if (KEYPOINT_FILE.test(file.name) || file.type === "text/csv") {
          await this.loadKeypoints(this.work.sides[side], file);
          continue;
        }
        const picture = await this.send(file);
        if (first) this.show(side, picture);
        else if (!this.work.sides[1 - side]) this.show(1 - side, picture);
        first = false;
      }
      this.draw();
    });
  }

  async send(file) {
    if (file.size > this.limits.bytes) {
      throw new Error(`${file.name}: more than ${Math.round(this.limits.bytes / 2 ** 20)} MB; save a smaller copy.`);
    }
    $("status").textContent = `Sending ${file.name} …`;
    try {
      const { id, width, height } = await server.sendPicture(file);
      return this.work.add({ id, width, height, name: file.name, category: "object", file, points: [] });
    } finally {
      this.drawStatus();
    }
  }

  showExample() {
    const chosen = $("examples").value;
    if (chosen === "") return;
    this.examples[chosen].sides.forEach((given, side) => {
      const points = given.points.map((p) => point(p.name, p.x, p.y));
      this.work.sides[side] = this.work.add({ ...given, file: null, points });
    });
    this.selected = null;
    this.changed();
  }

  async loadKeypoints(picture, file) {
    if (!picture) throw new Error(`${file.name}: open its picture first.`);
    const { points, category } = await server.readKeypoints(file, picture.name);
    const outside = points.find((p) => !(p.x >= 0 && p.y >= 0 && p.x <= picture.width && p.y <= picture.height));
    if (outside) {
      throw new Error(`${file.name}: ${outside.name} lies outside the picture of ${picture.width} x ${picture.height} pixels.`);
    }
    if (points.length > this.limits.points) {
      throw new Error(`${file.name}: ${points.length} keypoints; a picture takes at most ${this.limits.points}.`);
    }
    this.edit(picture, (held) => held.splice(0, held.length, ...points.map((p) => point(p.name, p.x, p.y))));
    if (category) this.setCategory(picture, category);
  }

  saveKeypoints(picture) {
    // The picture's own name, by which --match finds its rows.
    const name = picture.file ? picture.name : imageName(picture);
    const stem = imageName(picture).replace(/\.[^.]*$/, "");
    download(`${stem}.csv`, new Blob([table([{ name, picture }])], { type: "text/csv" }));
    if (this.work.pictures.every((p) => p === picture || !p.points.length || !p.file)) this.work.unsaved = false;
  }

  async saveAll() {
    const chosen = named(this.work.pictures.filter((p) => p.points.length));
    const entries = [{ name: "points.csv", blob: new Blob([table(chosen)], { type: "text/csv" }) }];
    for (const { name, picture } of chosen) {
      const blob = picture.file ?? (await (await fetch(server.pictureAddress(picture.id))).blob());
      entries.push({ name: `images/${name}`, blob });
    }
    download("pictures.zip", await zip(entries));
    this.work.unsaved = false;
    this.note = `${count(chosen.length, "picture")} saved. Unpack them, then: run.py --prepare NAME --raw FOLDER`;
    this.drawStatus();
  }

  setCategory(picture, text) {
    picture.category = plainName(text) || "object";
    this.work.unsaved = true;
    this.draw();
  }

  // --- points ---

  edit(picture, change, kind = null) {
    this.work.change(picture, change, kind);
    this.changed();
  }

  afterStep(picture) {
    if (!picture) return;
    if (!this.work.find(this.selected)) this.selected = null;
    if (!this.work.sides.includes(picture)) this.work.sides[this.active] = picture;
    this.changed();
  }

  select(uid, focus = false) {
    if (this.selected !== uid) {
      this.selected = uid;
      this.draw();
    }
    if (focus) this.focusPoint(uid);
  }

  focusPoint(uid) {
    for (const panel of this.panels) panel.buttons.get(uid)?.focus({ preventScroll: true });
  }

  remove(uid) {
    const found = this.work.find(uid);
    if (!found) return;
    const { picture } = found;
    const place = picture.points.indexOf(found.point);
    this.selected = (picture.points[place + 1] ?? picture.points[place - 1])?.uid ?? null;
    this.edit(picture, (points) => points.splice(place, 1));
    if (this.selected) this.focusPoint(this.selected);
    else this.panels[this.work.sides.indexOf(picture)]?.add.focus();
  }

  moveTo(x, y, kind = null) {
    const found = this.work.find(this.selected);
    if (found && Number.isFinite(x) && Number.isFinite(y)) {
      this.edit(found.picture, () => Object.assign(found.point, clamped(found.picture, x, y)), kind);
    }
  }

  rename(text) {
    const found = this.work.find(this.selected);
    if (!found) return;
    const name = plainName(text);
    $("error").hidden = true;
    if (found.picture.points.some((p) => p !== found.point && p.name === name)) {
      this.fail(`“${name}” names another keypoint of this picture already.`);
    } else if (name && name !== found.point.name) {
      this.edit(found.picture, () => (found.point.name = name));
    }
  }

  key(event) {
    const typing = event.target.matches("input:not([type=range], [type=checkbox]), select");
    const command = event.ctrlKey || event.metaKey;
    if (command && !typing && event.key.toLowerCase() === "z") {
      event.preventDefault();
      this.afterStep(event.shiftKey ? this.work.redo() : this.work.undo());
    } else if (command && !typing && event.key.toLowerCase() === "y") {
      event.preventDefault();
      this.afterStep(this.work.redo());
    } else if (event.target.matches(".point") && !command) {
      this.pointKey(event);
    }
  }

  pointKey(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { point: p } = this.work.find(this.selected) ?? {};
    if (!p) return;
    if (event.key in arrows) {
      const [dx, dy] = arrows[event.key].map((d) => d * (event.shiftKey ? 10 : 1));
      this.moveTo(p.x + dx, p.y + dy, `arrows ${p.uid}`);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.remove(p.uid);
    } else if (event.key === "Enter" || event.key === "F2") {
      $("name").focus();
      $("name").select();
    } else {
      return;
    }
    event.preventDefault();
  }

  // --- matches ---

  changed() {
    this.note = "";
    this.draw();
    this.match();
  }

  moved() {
    this.draw();
    this.match();
  }

  // Asks for the matches of what is there now. One request at a time; what changes meanwhile is asked for after it.
  async match() {
    const [source, target] = this.work.sides;
    if (!(source?.points.length >= 2 && target?.points.length >= 2)) {
      this.matches = [];
      this.answer = null;
      this.draw();
      return;
    }
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    const uids = [source, target].map((picture) => picture.points.map((p) => p.uid));
    try {
      this.answer = await this.asked(source, target);
      this.matches = this.answer.matches.map((m) => ({ ...m, source: uids[0][m.source], target: uids[1][m.target] }));
      this.draw();
    } catch (error) {
      this.fail(error.message);
    } finally {
      this.asking = false;
      if (this.again) {
        this.again = false;
        this.match();
      }
    }
  }

  async asked(source, target) {
    try {
      return await server.match(source, target);
    } catch (error) {
      if (error.status !== 404) throw error;
      // The server holds so many pictures, or was started again.
      await server.examples();
      for (const picture of [source, target]) if (picture.file) await server.sendPicture(picture.file);
      return await server.match(source, target);
    }
  }

  get threshold() {
    return Number($("threshold").value);
  }

  // The matches from the threshold up. With one, a target keypoint is left to its most confident match.
  get shown() {
    const { threshold } = this;
    const found = this.matches.filter((m) => m.confidence >= threshold);
    if (threshold === 0) return found;
    return found.filter((m) => !found.some((o) => o.target === m.target && o.confidence > m.confidence));
  }

  // The match of a point that is shown, on either side.
  shownMatch(side, uid) {
    const end = side === 0 ? "source" : "target";
    return this.shown.find((m) => m[end] === uid) ?? null;
  }

  describe(side, p) {
    if (!this.answer) return { text: "", colour: "#fff" };
    const match = this.shownMatch(side, p.uid);
    if (!match) return { text: ", no match", colour: "" };
    const other = this.work.find(side === 0 ? match.target : match.source)?.point.name ?? "";
    return { text: `, matches ${other}, ${match.confidence.toFixed(2)}`, colour: this.colour(match.confidence) };
  }

  colour(confidence) {
    const style = getComputedStyle(document.documentElement);
    const [low, middle, high] = RAMP.map((name) => style.getPropertyValue(name).trim());
    const share = Math.min(Math.max(confidence, 0), 1) * 2;
    return share < 1
      ? `color-mix(in oklab, ${middle} ${Math.round(share * 100)}%, ${low})`
      : `color-mix(in oklab, ${high} ${Math.round((share - 1) * 100)}%, ${middle})`;
  }

  // --- drawing ---

  draw() {
    this.drawMatches();
    $("first-example").hidden = !this.examples.length || this.work.sides.some(Boolean);
    $("undo").disabled = !this.work.past.length;
    $("redo").disabled = !this.work.future.length;
    $("swap").disabled = !this.work.sides.some(Boolean);
    $("save-all").disabled = !this.work.pictures.some((p) => p.points.length);
    const found = this.work.find(this.selected);
    $("chosen").disabled = !found;
    this.drawChosen(found?.point);
    const used = this.work.pictures.flatMap((p) => p.points.map((q) => q.name)).filter(isChosenName);
    const names = new Set([...(this.known[found?.picture.category] ?? []), ...used]);
    for (const p of found?.picture.points ?? []) names.delete(p.name);
    refill($("names"), [...names]);
    const categories = new Set([...Object.keys(this.known), ...this.work.pictures.map((p) => p.category)]);
    refill($("categories"), [...categories]);
  }

  // Shows the selected point; what is being typed stays until it is done.
  drawChosen(p, done = false) {
    const typing = !done && this.drawn === p?.uid ? document.activeElement : null;
    for (const key of ["name", "x", "y"]) if ($(key) !== typing) $(key).value = p ? p[key] : "";
    this.drawn = p?.uid;
  }

  drawMatches() {
    $("threshold-value").textContent = this.threshold.toFixed(2);
    for (const panel of this.panels) panel.draw();
    this.drawLines();
    this.drawRows();
    this.drawStatus();
  }

  layout() {
    for (const panel of this.panels) panel.layout();
    this.drawLines();
  }

  drawLines() {
    const box = $("stage").getBoundingClientRect();
    const lines = [];
    for (const match of this.shown) {
      const ends = [this.panels[0].position(match.source), this.panels[1].position(match.target)];
      if (ends.includes(null)) continue;
      const now = this.selected === match.source || this.selected === match.target;
      for (const halo of [true, false]) {
        const line = document.createElementNS(SVG, "line");
        ends.forEach((end, k) => {
          line.setAttribute(`x${k + 1}`, end.x - box.left);
          line.setAttribute(`y${k + 1}`, end.y - box.top);
        });
        line.setAttribute("stroke-width", (now ? 4.5 : 2.5) + (halo ? 2 : 0));
        if (halo) line.setAttribute("class", "halo");
        else line.style.stroke = this.colour(match.confidence);
        lines.push(line);
      }
    }
    $("lines").replaceChildren(...lines);
  }

  drawRows() {
    const [source, target] = this.work.sides;
    const rows = (source?.points ?? []).map((p) => this.row(p, this.shownMatch(0, p.uid)));
    if (this.answer) {
      const alone = (target?.points ?? []).filter((p) => !this.shownMatch(1, p.uid));
      rows.push(...alone.map((p) => this.row(null, null, p)));
    }
    $("rows").replaceChildren(...rows);
  }

  row(from, match, alone = null) {
    const row = document.createElement("tr");
    const to = alone ?? (match && this.work.find(match.target)?.point);
    const cells = [0, 1, 2].map(() => row.insertCell());
    if (from) cells[0].append(this.nameButton(from));
    else cells[0].textContent = "none";
    if (to) cells[1].append(this.nameButton(to));
    else cells[1].textContent = this.answer ? "none" : "";
    if (match && to) {
      const dot = document.createElement("i");
      dot.style.setProperty("--dot", this.colour(match.confidence));
      cells[2].append(dot, match.confidence.toFixed(2));
      this.markTruth(cells[1], from, to);
    }
    row.classList.toggle("none", Boolean(this.answer) && !match);
    row.classList.toggle("now", this.selected !== null && [from?.uid, to?.uid].includes(this.selected));
    return row;
  }

  nameButton(p) {
    const button = document.createElement("button");
    for (const part of p.name.split(/(?<=[_\-/.])/)) button.append(part, document.createElement("wbr"));
    button.onclick = () => this.select(p.uid, true);
    return button;
  }

  // Where both pictures have a keypoint of this name, the names say whether the match is right.
  markTruth(cell, from, to) {
    const known = this.work.sides[1].points.some((p) => p.name === from.name);
    if (!isChosenName(from.name) || !known) return;
    const mark = document.createElement("span");
    const right = from.name === to.name;
    mark.className = right ? "right" : "wrong";
    mark.textContent = right ? " ✓" : " ✗";
    mark.title = right ? "the names agree" : "the names differ";
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", mark.title);
    cell.append(mark);
  }

  drawStatus() {
    $("status").textContent = this.note || this.summary();
  }

  summary() {
    const [source, target] = this.work.sides;
    if (!source && !target) return "Open two pictures, or choose an example.";
    if (!source || !target) return "Open a second picture.";
    if (!this.answer) return "Click two keypoints or more on both pictures.";
    const shown = source.points.filter((p) => this.shownMatch(0, p.uid)).length;
    const none = source.points.length - shown;
    const rest = none ? `, ${none} without` : "";
    const found = `${shown} ${shown === 1 ? "match" : "matches"}${rest} · ${Math.round(this.answer.seconds * 1000)} ms`;
    const few = this.threshold > 0 && shown < FEW * Math.min(source.points.length, target.points.length);
    return few ? `${found}. These pictures may not show the same object.` : found;
  }
}

const page = new Page();
page.attempt(() => page.start());
