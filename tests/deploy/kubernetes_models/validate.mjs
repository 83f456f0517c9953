// Validates resources (a list as JSON on standard input) against the schemas of their kinds, and refuses unknown fields.
// The schemas let a field pass that they do not know; the types of the same package do not.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const MODULES = {
  PrometheusRule: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
  ScaledObject: "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
  ServiceMonitor: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
};
const OPTIONS = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"];

for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const { kind } = resource;
  const model = (await import(MODULES[kind]))[kind];
  new model(resource).validate(); // throws
  const source = `import type { I${kind} } from "${MODULES[kind]}";\n`;
  writeFileSync("typed.mts", `${source}export const resource: I${kind} = ${JSON.stringify(resource, null, 2)};\n`);
  execFileSync("node", ["node_modules/typescript/lib/tsc.js", ...OPTIONS, "typed.mts"], { stdio: "inherit" }); // throws
}
