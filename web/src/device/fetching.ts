/** Fetch an exported folder from a server, from a folder on the web, or from memory; refuse changed files. */

import { type Bytes, sha256, toHex } from "../protocol/bytes";
import { SHA256 } from "../protocol/limits";
import { FormatError, type Dtype, type Stored, unpack } from "../protocol/tensors";
import { ArtifactError } from "./errors";

const MAX_HEADER_BYTES = 1024 * 1024;

/** Files by name. */
export type Files = ReadonlyMap<string, Bytes>;
export type Progress = (done: number, total: number) => void;

export interface Source {
  /** Read the manifest as JSON. */
  manifest(): Promise<unknown>;
  /** Read the bytes of the manifest and of the root's signature of it. */
  signed(): Promise<{ manifest: Bytes; signature: Bytes }>;
  file(name: string, digest: string): Promise<Bytes>;
}

/** Make a source of a server's model; its first model for null. The browser caches the files by their digests. */
export function fromServer(server: string, model: string | null): Source {
  const path = async (): Promise<string> => {
    const listed = (await json(`${server}/v1/bundles`)) as { bundles?: { model: string }[] };
    const offered = listed.bundles?.map((bundle) => bundle.model) ?? [];
    const chosen = model ?? offered[0];
    if (!chosen || !offered.includes(chosen)) {
      throw new ArtifactError(
        "this service offers no model to browsers; start it with: paramcast serve ARTIFACT",
      );
    }
    return `${server}/v1/bundles/${chosen}`;
  };
  return {
    manifest: async () => json(await path()),
    async signed() {
      const at = await path();
      return { manifest: await fresh(at), signature: await fresh(`${at}/signature`) };
    },
    file: async (_, digest) => bytes(await answered(`${server}/v1/files/${digest}`, {})),
  };
}

/** Make a source of a folder `artifact/device` on any web server. */
export function fromFolder(url: string): Source {
  const at = (name: string) => `${url.replace(/\/$/, "")}/${name}`;
  return {
    manifest: () => json(at("manifest.json")),
    signed: async () => ({
      manifest: await fresh(at("manifest.json")),
      signature: await fresh(at("manifest.sig")),
    }),
    file: async (name) => bytes(await answered(at(name), { cache: "no-cache" })),
  };
}

/** Make a source of files in memory, by name. */
export function fromFiles(files: Readonly<Record<string, Uint8Array>>): Source {
  const file = (name: string): Bytes => {
    if (!Object.hasOwn(files, name)) throw new ArtifactError(`${name} is not among the files`);
    return new Uint8Array(files[name]);
  };
  return {
    manifest: async () => parsed(new TextDecoder().decode(file("manifest.json")), "manifest.json"),
    signed: async () => ({ manifest: file("manifest.json"), signature: file("manifest.sig") }),
    file: async (name) => file(name),
  };
}

/**
 * Fetch the files of a manifest and check their sha256.
 *
 * @param progress called before the first file and after each file with the number of fetched files and of all files.
 * @throws ArtifactError if a file is missing or damaged.
 */
export async function fetchFiles(
  source: Source,
  names: readonly string[],
  digests: Readonly<Record<string, unknown>>,
  progress: Progress = () => undefined,
): Promise<Files> {
  let done = 0;
  progress(done, names.length);
  const fetched = names.map(async (name): Promise<[string, Bytes]> => {
    const digest = Object.hasOwn(digests, name) ? digests[name] : null;
    if (typeof digest !== "string" || !SHA256.test(digest)) {
      throw new ArtifactError(`the manifest does not list ${name}; export again`);
    }
    const data = await source.file(name, digest);
    if (toHex(await sha256(data)) !== digest) {
      throw new ArtifactError(`${name} is not the file that was exported: its sha256 differs`);
    }
    progress(++done, names.length);
    return [name, data];
  });
  return new Map(await Promise.all(fetched));
}

/** Read the tensors of a safetensors file. @throws ArtifactError if it is no such file. */
export function tensorsOf(
  files: Files,
  name: string,
  itemBytes?: Partial<Record<Dtype, number>>,
): Map<string, Stored> {
  try {
    return unpack(files.get(name)!, MAX_HEADER_BYTES, itemBytes).arrays;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new ArtifactError(`${name} is no safetensors file that can be read: ${error.message}`);
  }
}

async function json(url: string): Promise<unknown> {
  return parsed(await (await answered(url, { cache: "no-cache" })).text(), url);
}

async function fresh(url: string): Promise<Bytes> {
  return bytes(await answered(url, { cache: "no-cache" }));
}

function parsed(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ArtifactError(`${where} is no JSON`);
  }
}

async function bytes(response: Response): Promise<Bytes> {
  return new Uint8Array(await response.arrayBuffer());
}

async function answered(url: string, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new ArtifactError(`the service cannot be reached: ${url}`);
  }
  if (!response.ok) throw new ArtifactError(`the service answers ${response.status} to ${url}`);
  return response;
}
