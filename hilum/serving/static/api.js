// The API as the page uses it: one study in, findings or maps out, and every failure as one sentence.

let key = null; // kept in this window's memory alone

export const useKey = (given) => {
  key = given;
};

/** What went wrong, as the server said it (RFC 9457) or as the connection did. */
export class Problem extends Error {
  constructor(status, code, detail, facts = {}) {
    super(detail);
    Object.assign(this, { status, code, ...facts });
  }
}

/** study: {files, views, age, sex, own}; the answer of POST /api/v1/predict. */
export const predict = (study, signal) => send("api/v1/predict", form(study, { images: "true" }), signal);

/** The maps of one finding: POST /api/v1/explain. */
export const explain = (study, finding, signal) => send("api/v1/explain", form(study, { finding }), signal);

function form({ files, views, age, sex, own }, more) {
  const data = new FormData();
  files.forEach((file, index) => {
    data.append("files", file, `image-${index + 1}`); // a file's name may name a patient
    data.append("view", views[index] || "unknown"); // what the file itself says then counts
  });
  for (const [name, value] of Object.entries({ age, sex, findings: own, ...more })) if (value) data.append(name, value);
  return data;
}

function sentence(told) {
  if (!told?.title) return told?.detail ?? null;
  const title = `${told.title}.`;
  return !told.detail || told.detail.replace(/\.*$/, ".") === title ? title : `${title} ${told.detail}`;
}

async function send(address, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(address, { method: "POST", body, headers, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The server cannot be reached. Check that it still runs, then try again.");
  }
  const told = await response.json().catch(() => null);
  signal.throwIfAborted();
  if (response.ok && told) return told;
  const wait = Number(response.headers.get("Retry-After")) || null;
  throw new Problem(
    response.status,
    told?.code ?? "unknown",
    sentence(told) ?? `The server answered with ${response.status} and without a reason.`,
    { index: told?.file_index ?? null, warnings: told?.warnings ?? [], wait },
  );
}
