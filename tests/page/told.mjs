// The page of a proxy, with another state behind it: whatever a test wants to be told.
import { once } from "node:events";
import { createServer } from "node:http";

/**
 * Serves the page of the proxy at `url`, and `events` in place of its own: pairs of a name and what it says. Without any there
 * is no room for one more viewer, until somebody is admitted.
 */
export async function told(url, events) {
  const admit = (others) => { events = others; };
  const server = createServer(async (request, response) => {
    if (request.url === "/status/events") {
      if (!events) return response.writeHead(503).end();
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const [name, content] of events) response.write(`event: ${name}\ndata: ${JSON.stringify(content)}\n\n`);
      return;
    }
    const answer = await fetch(url + request.url);
    const { "content-security-policy": policy = "", "content-type": type } = Object.fromEntries(answer.headers);
    response.writeHead(answer.status, { "content-security-policy": policy, "content-type": type });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, close, admit };
}
