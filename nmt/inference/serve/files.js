// Tables and ZIP files, made in the browser.

const HEADER = "image,category,keypoint,x,y\n";
const TYPES = { "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif", "image/bmp": ".bmp" };
const SUFFIX = /\.(jpe?g|jpe|jp2|png|bmp|gif|tiff?|webp|p[pg]m|heic|avif)$/i;

function cell(text) {
  return /[",;\t\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The table of pictures that --prepare reads, and --match too: it takes the rows of its image.
export function table(pictures) {
  const rows = pictures.flatMap(({ name, picture }) =>
    picture.points.map((p) => [name, picture.category || "object", p.name, p.x, p.y].map((v) => cell(String(v))).join(",")),
  );
  return HEADER + rows.map((row) => row + "\n").join("");
}

// A file name for a picture: no folders, nothing that a system forbids, and the suffix of an image.
export function imageName(picture) {
  const name = picture.name.replace(/[/\\:*?"<>|\p{C}]/gu, "_").replace(/^[.~ ]+/, "_");
  return SUFFIX.test(name) ? name : name + (TYPES[picture.file?.type] ?? ".jpg");
}

// Names for all pictures that differ also where letters of another case are the same.
export function named(pictures) {
  const taken = new Set();
  return pictures.map((picture) => {
    const whole = imageName(picture);
    const dot = whole.lastIndexOf(".");
    let name = whole;
    for (let n = 2; taken.has(name.toLowerCase()); n += 1) name = `${whole.slice(0, dot)}-${n}${whole.slice(dot)}`;
    taken.add(name.toLowerCase());
    return { name, picture };
  });
}

export function download(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// A ZIP file without compression: photographs are compressed already.
export async function zip(entries) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of entries) {
    const bytes = new TextEncoder().encode(name);
    const common = header(bytes.length, blob.size, crc32(new Uint8Array(await blob.arrayBuffer())));
    const local = join([0x50, 0x4b, 3, 4], common, bytes);
    directory.push(join([0x50, 0x4b, 1, 2, 20, 0], common, number(0, 2), number(0, 4), number(0, 4), number(offset, 4), bytes));
    parts.push(local, blob);
    offset += local.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = number(directory.length, 2);
  const end = join([0x50, 0x4b, 5, 6], number(0, 4), count, count, number(size, 4), number(offset, 4), number(0, 2));
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// What a local header and an entry of the directory share: version, UTF-8, stored, 1 January 1980, sizes.
function header(nameLength, size, crc) {
  const fields = [number(20, 2), number(0x800, 2), number(0, 2), number(0, 2), number(33, 2), number(crc, 4)];
  return join(...fields, number(size, 4), number(size, 4), number(nameLength, 2), number(0, 2));
}

function number(value, bytes) {
  return Array.from({ length: bytes }, (_, k) => Math.floor(value / 2 ** (8 * k)) % 256);
}

function join(...parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
