import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const gateway = process.env["VERACITY_GATEWAY"] ?? "http://127.0.0.1:8000";

export default defineConfig({
  base: "./",
  plugins: [react(), tailwindcss()],
  build: { target: "es2022", modulePreload: { polyfill: false } },
  server: { proxy: { "/api": { target: gateway, ws: true } } },
  test: { environment: "jsdom", include: ["tests/**/*.test.{ts,tsx,jsx}"], restoreMocks: true },
});
