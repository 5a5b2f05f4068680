// The box's interface. What fails is an Error with the sentence that the box said.
// All addresses are relative: a proxy may show the page below a path.

export class NotLoggedIn extends Error {}

// What contradicts the state of the box: another order may be in place.
export class Conflict extends Error {}

async function send(method, path, body, type) {
  // A page of another site cannot send this header.
  const headers = { "X-Fmlora-Page": "1" };
  if (type) headers["Content-Type"] = type;
  let response;
  try {
    response = await fetch(path, { method, body, headers, credentials: "same-origin" });
  } catch {
    throw new Error("The box does not answer.");
  }
  if (response.ok) {
    const isJson = (response.headers.get("Content-Type") || "").startsWith("application/json");
    return isJson ? response.json() : null;
  }
  const problem = await response.json().catch(() => ({}));
  const why = problem.detail || `${response.status} ${response.statusText}`;
  if (response.status === 401 && path !== "api/v1/login") throw new NotLoggedIn(why);
  throw response.status === 409 ? new Conflict(why) : new Error(why);
}

const json = (method, path, value) =>
  send(method, path, JSON.stringify(value), "application/json");

const classPath = (name) => `api/v1/classes/${encodeURIComponent(name)}`;

export const api = {
  logIn: (user, password) => json("POST", "api/v1/login", { user, password }),
  logOut: () => send("POST", "api/v1/logout"),
  info: () => send("GET", "api/v1/info"),
  classes: () => send("GET", "api/v1/classes"),
  showToCamera: (name, count) => json("POST", `${classPath(name)}/shots/camera`, { count }),
  teach: (name, file) => send("POST", `${classPath(name)}/shots`, file, "application/octet-stream"),
  classify: (file) => send("POST", "api/v1/classify?top=5", file, "application/octet-stream"),
  learn: (form) => send("POST", "api/v1/learn", form),
  forget: (name) => send("DELETE", classPath(name)),
  rename: (name, to) => json("POST", `${classPath(name)}/rename`, { name: to }),
  undo: () => json("POST", "api/v1/undo", { count: 1 }),
  update: () => send("GET", "api/v1/update"),
  checkUpdate: () => send("POST", "api/v1/update/check"),
  applyUpdate: (order) => json("POST", "api/v1/update/apply", order),
  rollBackUpdate: (order) => json("POST", "api/v1/update/rollback", order),
  setPassword: (role, password) => json("PUT", "api/v1/password", { role, password }),
  tokens: () => send("GET", "api/v1/tokens"),
  addToken: (name, role) => json("POST", "api/v1/tokens", { name, role }),
  removeToken: (id) => send("DELETE", `api/v1/tokens/${id}`),
};
