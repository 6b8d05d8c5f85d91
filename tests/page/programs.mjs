// The emulator and the proxy as processes, the emulator's control, and requests of several apps.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";

/** What the examples of traffic call themselves: without keys, a label that anybody may use. */
const APPS = ["website", "batch", "editor"];

/** A subcommand of the binary that runs until it is told to stop. */
export class Program {
  static running = new Set();

  constructor(args, variables = {}) {
    // Nothing that says anything about Azure or OpenAI; should anything forget where the metadata service is: nowhere.
    const env = { PATH: process.env.PATH, HOME: "/nonexistent", AZURE_POD_IDENTITY_AUTHORITY_HOST: "http://127.0.0.1:9", ...variables };
    this.process = spawn(process.env.BINARY, args, { cwd: tmpdir(), env, stdio: ["ignore", "pipe", "inherit"] });
    this.ended = once(this.process, "exit");
    this.lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
    Program.running.add(this);
    this.ended.finally(() => Program.running.delete(this));
  }

  /** The rest of the next line that begins so; each line before it goes to `other`. */
  async line(beginning, other = () => {}) {
    for (let next = await this.lines.next(); !next.done; next = await this.lines.next()) {
      if (next.value.startsWith(beginning)) return next.value.slice(beginning.length).trim();
      other(next.value);
    }
    throw new Error(`${this.process.spawnargs.join(" ")} ended without saying ${beginning}`);
  }

  async stop() {
    this.process.kill("SIGTERM");
    const [code] = await this.ended;
    if (code !== 0) throw new Error(`${this.process.spawnargs.join(" ")} ended with ${code}`);
  }

  static killAll() {
    for (const program of Program.running) program.process.kill("SIGKILL");
  }
}

/** Azure on this machine, and how to make it misbehave. */
export async function emulator() {
  const program = new Program(["emulator"]);
  const exports = {};
  await program.line("# ready", (line) => {
    const [, name, value] = /^export (\w+)=(.*)$/.exec(line) ?? [];
    if (name) exports[name] = value;
  });
  const control = async (method, path, content) => {
    const answer = await fetch(exports.AOAI_EMULATOR_CONTROL + path, {
      method,
      headers: { "content-type": "application/json" },
      body: content && JSON.stringify(content),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status}`);
  };
  return { program, exports, control };
}

/** The proxy before that Azure. */
export async function serve(azure, { address = "127.0.0.1:0", variables = {} } = {}) {
  const labels = APPS.flatMap((app) => ["--set", `apps.${app}.requests_per_minute=100000`]);
  const program = new Program(["serve", "--listen", address, "--log-level", "error", ...labels], { ...azure.exports, ...variables });
  return { program, url: await program.line("listening on ") };
}

/** One request of an app; the status of its answer, once that is read. */
export async function ask(url, app, model, text = "Tell me about the sea, please") {
  const isEmbedding = model.startsWith("text-embedding");
  const content = isEmbedding ? { model, input: text } : { model, messages: [{ role: "user", content: text }] };
  const answer = await fetch(`${url}/v1/${isEmbedding ? "embeddings" : "chat/completions"}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${app}` },
    body: JSON.stringify(content),
  });
  await answer.arrayBuffer();
  return answer.status;
}
