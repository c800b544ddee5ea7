import type { NextConfig } from "next";

const variant = process.env.AUTH_VARIANT === "v4" ? "v4" : "v5";

// The two variants differ in what "@/auth" stands for, which is an alias of
// their tsconfig files.
const config: NextConfig = {
	distDir: `.next-${variant}`,
	typescript: { tsconfigPath: variant === "v4" ? "tsconfig.v4.json" : "tsconfig.json" },
};

export default config;
