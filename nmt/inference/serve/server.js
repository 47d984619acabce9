// Requests to the server. Every error is an Error whose message is one line for the page.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new ServerError(0, "The server does not answer; is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ServerError(response.status, answer.error ?? `The server answers ${response.status}.`);
  return answer;
}

function sendFile(address, file, query) {
  const headers = { "Content-Type": "application/octet-stream" };
  return ask(`${address}?${new URLSearchParams(query)}`, { method: "POST", headers, body: file });
}

export const info = () => ask("/api/info");
export const examples = () => ask("/api/examples");
export const sendPicture = (file) => sendFile("/api/pictures", file, { name: file.name });
export const readKeypoints = (file, image) => sendFile("/api/keypoints", file, { name: file.name, image });
export const pictureAddress = (id) => `/api/pictures/${id}`;

export function match(source, target) {
  const side = (picture) => ({ picture: picture.id, points: picture.points.map((p) => [p.x, p.y]) });
  const body = JSON.stringify({ source: side(source), target: side(target) });
  return ask("/api/match", { method: "POST", headers: { "Content-Type": "application/json" }, body });
}
