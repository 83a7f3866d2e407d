/* Loads an export as a server does, without Python, and continues a prompt.

   cc greedy.c -I tensorflow/include -l:libtensorflow_cc.so.2 ...
   ./a.out EXPORT_DIR PROMPT N PROMPT_OP OUTPUT_OP OUTPUT_INDEX INPUT_OP...

   The operations behind the signature `generate`: of the prompt, of
   text_bytes, then of max_new_tokens, temperature, top_k, top_p,
   repetition_penalty, min_new_tokens and seed. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static TF_Status* status;

static void check(const char* what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static TF_Tensor* one(TF_DataType type, const void* value, size_t size) {
  int64_t dims[] = {1};
  TF_Tensor* tensor = TF_AllocateTensor(type, dims, 1, size);
  memcpy(TF_TensorData(tensor), value, size);
  return tensor;
}

static TF_Tensor* text(const char* value) {
  TF_TString string;
  TF_TString_Init(&string);
  TF_TString_Copy(&string, value, strlen(value));
  return one(TF_STRING, &string, sizeof string);
}

static TF_Output output(TF_Graph* graph, const char* name, int index) {
  TF_Output found = {TF_GraphOperationByName(graph, name), index};
  if (found.oper) return found;
  fprintf(stderr, "no operation %s\n", name);
  exit(1);
}

int main(int argc, char** argv) {
  if (argc != 14) return fprintf(stderr, "see the head of greedy.c\n"), 2;
  status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(
      options, NULL, argv[1], tags, 1, graph, NULL, status);
  check("load");

  int32_t n_new = atoi(argv[3]), top_k = 0, min_new = 0;
  float temperature = 0, top_p = 1, penalty = 1;
  int64_t seed = 0;
  TF_Tensor* values[] = {
      text(argv[2]),
      one(TF_INT32, &n_new, sizeof n_new),
      one(TF_FLOAT, &temperature, sizeof temperature),
      one(TF_INT32, &top_k, sizeof top_k),
      one(TF_FLOAT, &top_p, sizeof top_p),
      one(TF_FLOAT, &penalty, sizeof penalty),
      one(TF_INT32, &min_new, sizeof min_new),
      one(TF_INT64, &seed, sizeof seed),
  };
  TF_Output inputs[8] = {output(graph, argv[4], 0)};
  for (int i = 1; i < 8; i++) inputs[i] = output(graph, argv[6 + i], 0);
  TF_Output outputs[] = {output(graph, argv[5], atoi(argv[6]))};
  TF_Tensor* answer = NULL;
  TF_SessionRun(session, NULL, inputs, values, 8, outputs, &answer, 1, NULL, 0,
                NULL, status);
  check("run");

  const TF_TString* bytes = TF_TensorData(answer);
  fwrite(TF_TString_GetDataPointer(bytes), 1, TF_TString_GetSize(bytes), stdout);

  for (int i = 0; i < 8; i++) TF_DeleteTensor(values[i]);
  TF_DeleteTensor(answer);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
