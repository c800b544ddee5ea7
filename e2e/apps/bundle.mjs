import { build } from "esbuild";

/** Returns the script of a page, given its first module. */
export async function bundle(entry, define = {}) {
	const { outputFiles: [{ text }] } = await build({ entryPoints: [entry], bundle: true, write: false, minify: true, define });
	return text;
}
