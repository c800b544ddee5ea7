export default defineNuxtConfig({
	compatibilityDate: "2026-11-01",
	modules: ["nuxt-auth-utils"],
	devtools: { enabled: false },
	telemetry: false,
	nitro: { output: { dir: "build" } },
});
