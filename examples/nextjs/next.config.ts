import type { NextConfig } from "next";

const variant = process.env.AUTH_VARIANT === "v4" ? "v4" : "v5";

// Each variant has a tsconfig file, whose alias "@/auth" points to its code.
const config: NextConfig = {
	distDir: `.next-${variant}`,
	typescript: { tsconfigPath: variant === "v4" ? "tsconfig.v4.json" : "tsconfig.json" },
};

export default config;
