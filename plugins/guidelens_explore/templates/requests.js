// Requests to the server: JSON responses, and events while a drawing runs.

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is guidelens explore still running?");
  }
}

async function post(path, body, signal) {
  const answer = await reach(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || `the server answered ${answer.status}`);
  }
  return answer;
}

export async function ask(path, body) {
  const answer = body === undefined ? await reach(path) : await post(path, body);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

// Call onEvent(name, data) for every event. Aborting the signal closes the connection, and the server stops.
export async function follow(path, body, signal, onEvent) {
  const answer = await post(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\n");
      onEvent(name.slice("event: ".length), JSON.parse(data.slice("data: ".length)));
    }
  }
}
