// @vitest-environment node
import { readFileSync } from "node:fs";
import { compileFromFile } from "json-schema-to-typescript";
import { expect, test } from "vitest";

test("the types are those of the schema, which a Python test holds against the models", async () => {
  const written = readFileSync("src/realtime/wire.ts", "utf8");
  const made = await compileFromFile("src/realtime/wire.schema.json", {
    additionalProperties: false,
    bannerComment: "/* Made from the Python models by make types. */",
  });
  expect(written, "make types").toBe(made);
});
