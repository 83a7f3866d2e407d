# Not run yet: there was no docker where it was written.
#
#   docker build -t minigpt .
#   docker run --rm -v "$PWD/runs:/app/runs" minigpt train --preset=mini \
#     --dataset=sample --workdir=runs/mini
FROM python:3.11-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist /src

FROM python:3.11-slim
COPY --from=build /dist /dist
RUN pip install --no-cache-dir "$(ls /dist/*.whl)[viz,serve,hf]" && rm -r /dist
# What a container writes into a mounted folder belongs to an ordinary user.
RUN useradd --create-home --uid 1000 minigpt && install -d -o minigpt /app
USER 1000
WORKDIR /app
# The program is process 1, so that a stopped container ends as `kill` does: the
# step is finished and saved.
ENTRYPOINT ["minigpt"]
CMD ["--help"]
