import { execFileSync } from "node:child_process";
import { copyFile, readdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** The library's types, with whole file names, as Node's way of finding modules wants them. */
function types(): Plugin {
  let out = "";
  return {
    name: "types",
    configResolved({ root, build }) {
      out = resolve(root, build.outDir);
    },
    async closeBundle() {
      const tsc = join(import.meta.dirname, "node_modules", ".bin", "tsc");
      const folder = join(out, "types");
      const options = ["--project", "tsconfig.device.json", "--outDir", folder];
      execFileSync(tsc, options, { cwd: import.meta.dirname, stdio: "inherit" });
      for (const name of await readdir(folder, { recursive: true })) {
        if (!name.endsWith(".d.ts")) continue;
        const text = await readFile(join(folder, name), "utf-8");
        await writeFile(join(folder, name), text.replace(/((?:from|import\() ?"\.{1,2}\/[^"]+)"/g, '$1.js"'));
      }
      await copyFile(join(import.meta.dirname, "..", "LICENSE"), join(out, "LICENSE"));
    },
  };
}

/** `@paramcast/device`: one file that bundlers shake, the packages that it needs beside it. */
export default defineConfig({
  plugins: [types()],
  build: {
    lib: { entry: "src/device/index.ts", formats: ["es"], fileName: "index" },
    rollupOptions: { external: [/^onnxruntime-web/, "idb-keyval"] },
    outDir: "package/dist",
    emptyOutDir: true,
    target: "es2024",
    minify: false,
  },
});
