# The dashboard as static files:  docker build -f deploy/docker/dashboard.Dockerfile -t veracity-dashboard .
FROM node:22-bookworm-slim AS build
WORKDIR /src
COPY services/dashboard/package.json services/dashboard/package-lock.json services/dashboard/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY services/dashboard ./
RUN npm run build

FROM nginxinc/nginx-unprivileged:1.29-alpine-slim
LABEL org.opencontainers.image.title="veracity-dashboard" org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/docker/dashboard.conf /etc/nginx/conf.d/default.conf
COPY --from=build /src/dist /usr/share/nginx/html
USER 10001
EXPOSE 8080
