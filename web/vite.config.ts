import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** ONNX Runtime's WebAssembly goes into the wheel, and to browsers, compressed: 8 MB and not 31. */
function gzipWasm(): Plugin {
  return {
    name: "gzip-wasm",
    apply: "build",
    async writeBundle({ dir }, bundle) {
      for (const name of Object.keys(bundle).filter((file) => file.endsWith(".wasm"))) {
        const path = join(dir!, name);
        await writeFile(path, gzipSync(await readFile(path), { level: 9 }));
        await rename(path, `${path}.gz`);
      }
    },
  };
}

/** Packages whose code is in the page or in its worker, which is built first. */
const packed = new Set<string>();

function notePackages(): Plugin {
  return {
    name: "note-packages",
    apply: "build",
    generateBundle(_, bundle) {
      const chunks = Object.values(bundle).filter((output) => output.type === "chunk");
      for (const id of chunks.flatMap((chunk) => Object.keys(chunk.modules))) {
        const name = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1];
        if (name) packed.add(name);
      }
    },
  };
}

/** The licences of the packages in the page. Vite's own list leaves out those in workers. */
function licences(): Plugin {
  return {
    name: "licences",
    apply: "build",
    async writeBundle({ dir }) {
      const parts = await Promise.all([...packed].sort().map(licenceOf));
      await writeFile(
        join(dir!, "licenses.md"),
        `# Licences of the packages in this page\n\n${parts.join("\n")}`,
      );
    },
  };
}

async function licenceOf(name: string): Promise<string> {
  const folder = join(import.meta.dirname, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf-8"));
  const file = (await readdir(folder)).sort().find((one) => /^licen[cs]e/i.test(one));
  // Who does not pack their licence has it in `notices`; where it is missing there too, the build fails.
  const path = file ? join(folder, file) : join(import.meta.dirname, "notices", name);
  const text = (await readFile(path, "utf-8")).replaceAll("\r\n", "\n").trim();
  return `## ${name} ${version} (${license})\n\n${text}\n`;
}

export default defineConfig({
  base: "./",
  plugins: [gzipWasm(), notePackages(), licences()],
  // The condition keeps ONNX Runtime's loader of WebAssembly a file of its own, which its threads load too.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "import", "default"] },
  worker: { format: "es", plugins: () => [notePackages()] },
  build: {
    outDir: "../src/paramcast/server/static",
    emptyOutDir: true,
    target: "es2024",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000" } },
});
