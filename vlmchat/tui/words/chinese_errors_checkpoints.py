"""What is wrong with a checkpoint, or with the hub it comes from, in Chinese; see ``chinese_errors``."""

from __future__ import annotations

SENTENCES: dict[str, str] = {
    # checkpoints
    "Nothing was loaded for {0}.": "没有为 {0} 加载任何内容。",
    "Please report this.": "请报告此问题。",
    "{0} is stored as {1}, not as {2}.": "{0} 存储为 {1}，而非 {2}。",
    "floating point": "浮点",
    "Fetch the checkpoint again.": "请重新下载检查点。",
    "The packed layer {0} cannot be used: {1}.": "打包层 {0} 无法使用：{1}。",
    "{0} is incomplete: it lacks model.safetensors.": "{0} 不完整：缺少 model.safetensors。",
    "{0} is incomplete: it lacks {1}.": "{0} 不完整：缺少 {1}。",
    "Fetch the missing files.": "请下载缺少的文件。",
    "{0} is damaged, cut short or unsafe: {1}": "{0} 已损坏、不完整或不安全：{1}",
    "Fetch the file again.": "请重新下载该文件。",
    "Fetch it again.": "请重新下载。",
    "Fetch them again.": "请重新下载。",
    "Fetch its files again.": "请重新下载其文件。",
    "{0} holds more than tensors.": "{0} 不只含有张量。",
    "It is no weights file of this model; fetch it again.": "它不是此模型的权重文件；请重新下载。",
    "{0} cannot be used: {1}.": "{0} 无法使用：{1}。",
    "{0} cannot be read: {1}.": "{0} 无法读取：{1}。",
    "{0} is in {1} and in {2}.": "{0} 同时在 {1} 和 {2} 中。",
    "Remove the file that does not belong to this checkpoint.": "请移除不属于此检查点的文件。",
    "The tokenizer files of {0} cannot be used: {1}.": "{0} 的分词器文件无法使用：{1}。",
    "The tokenizer_config.json of {0} cannot be used: {1}.": "{0} 的 tokenizer_config.json 无法使用：{1}。",
    "It needs vocab.json, merges.txt and tokenizer_config.json as the hub has them.": (
        "需要与模型站一致的 vocab.json、merges.txt 和 tokenizer_config.json。"
    ),
    "It needs tokenizer.json and tokenizer_config.json as the hub has them.": (
        "需要与模型站一致的 tokenizer.json 和 tokenizer_config.json。"
    ),
    "The tokenizer of this checkpoint has no {0} token.": "此检查点的分词器没有 {0} 词元。",
    "The tokenizer of this checkpoint has no control token {0}, which its config.json names.": (
        "此检查点的分词器没有 config.json 所列的控制词元 {0}。"
    ),
    "The tokenizer of this checkpoint ends every text; no answer can follow a prompt.": (
        "此检查点的分词器会终止每段文字，提示之后无法作答。"
    ),
    "The tokenizer loses the placeholder tokens of pictures.": "分词器丢失了图片的占位词元。",
    "Fetch its tokenizer files again.": "请重新下载其分词器文件。",
    "The checkpoint is of CogVLM, the first version, which this program cannot run.": (
        "此检查点属于第一版 CogVLM，本程序不能运行。"
    ),
    "Use a CogVLM2 checkpoint; `vlmchat models` lists them.": "请使用 CogVLM2 检查点；按 Ctrl+L 查看。",
    "The checkpoint's config.json {0}.": "检查点的 config.json {0}。",
    "lacks the key {0}": "缺少键 {0}",
    "has a value of the wrong kind: {0}": "含有类型错误的值：{0}",
    "has {0} {1}; only {2} has native code": "的 {0} 为 {1}；只有 {2} 有原生代码",
    "has a {0} text model; proven are {1}": "的文本模型为 {0}；已验证的有 {1}",
    "has a {0} rotary table, which is not proven here": "的旋转位置表为 {0}，尚未验证",
    "has num_positions {0} for pictures of {1} pixels": "的 num_positions 为 {0}，而图片为 {1} 像素",
    "has hidden_act {0}, which Transformers does not know": "的 hidden_act 为 {0}，Transformers 不认识",
    "has {0} {1}, which does not divide {2}": "的 {0} 为 {1}，不能整除 {2}",
    "has image_size {0}, but preprocessor_config.json cuts {1} pixels": (
        "的 image_size 为 {0}，而 preprocessor_config.json 切成 {1} 像素"
    ),
    "has num_attention_heads {0} for hidden_size {1}": "的 num_attention_heads 为 {0}，而 hidden_size 为 {1}",
    "has num_key_value_heads {0} for {1} heads": "的 num_key_value_heads 为 {0}，而头数为 {1}",
    "has {0} {1}; known are {2}": "的 {0} 为 {1}；已知的有 {2}",
    "Fetch config.json again, or pick another model.": "请重新下载 config.json，或选择其他模型。",
    "generation_config.json has eos_token_id {0}.": "generation_config.json 的 eos_token_id 为 {0}。",
    "{0} runs only with Python code from its own repository, which is never executed here.": (
        "{0} 只能用其仓库中的 Python 代码运行，而这里从不执行此类代码。"
    ),
    "{0} is no architecture that Transformers runs natively from pictures and text.": (
        "{0} 不是 Transformers 能以图文原生运行的架构。"
    ),
    "{0} is native to Transformers, but this program has not proven its numbers with it.": (
        "{0} 是 Transformers 的原生架构，但本程序尚未验证其数值。"
    ),
    "This {0} is stored quantized, which is not proven for its architecture.": (
        "此 {0} 以量化形式存储，其架构尚未验证这种形式。"
    ),
    "It runs {0}; `vlmchat models` lists the others.": "可运行 {0}；其余见 Ctrl+L。",
    "The processor announces {0} features of a picture, the model makes {1}.": (
        "处理器声明每张图片 {0} 个特征，模型却产生 {1} 个。"
    ),
    "Its processor files are of another model; fetch them again.": "其处理器文件属于其他模型；请重新下载。",
    "{0} asks for {1}; its architecture is proven with {2} only.": "{0} 要求 {1}；其架构只用 {2} 验证过。",
    "Pick another model.": "请选择其他模型。",
    "{0} has no chat template.": "{0} 没有对话模板。",
    "Pick a model that was trained to converse, often named -it.": "请选择为对话训练的模型，名称常以 -it 结尾。",
    "The processor files of {0} cannot be used: {1}": "{0} 的处理器文件无法使用：{1}",
    "It needs preprocessor_config.json and its tokenizer files as the hub has them.": (
        "需要与模型站一致的 preprocessor_config.json 和分词器文件。"
    ),
    "The chat template writes {0} pictures where the conversation has {1}.": (
        "对话模板写出 {0} 张图片，而对话有 {1} 张。"
    ),
    "This model cannot be shown pictures this way; fetch its template again or pick another.": (
        "此模型不能这样看图片；请重新下载其模板，或选择其他模型。"
    ),
    "This architecture stores its weights in a layout that is not proven here.": "此架构的权重布局尚未验证。",
    "{0} has no safetensors files.": "{0} 没有 safetensors 文件。",
    "Fetch them, or convert its pickle files with Transformers' save_pretrained.": (
        "请下载它们，或用 Transformers 的 save_pretrained 转换其 pickle 文件。"
    ),
    "The weights of {0} are damaged: {1}.": "{0} 的权重已损坏：{1}。",
    "The checkpoint {0}: {1}{2}.": "检查点{0}：{1}{2}。",
    "has tensors this program does not know": "含有本程序不认识的张量",
    "lacks tensors its config asks for": "缺少其配置要求的张量",
    "has tensors its own config has no place for": "含有其配置中没有位置的张量",
    "holds the same parameter more than once": "多次含有同一参数",
    "has tensors of another shape than its config says": "含有与其配置形状不同的张量",
    "The checkpoint {0}: {1} and {2} more.": "检查点{0}：{1}，以及另外 {2} 个。",
    "The files may be incomplete, altered or of another model; fetch them again.": (
        "文件可能不完整、被改动或属于其他模型；请重新下载。"
    ),
    "{0} is a checkpoint of {1}, which this version cannot run.": "{0} 是 {1} 的检查点，此版本不能运行。",
    "`vlmchat models` lists what it runs.": "按 Ctrl+L 可查看能运行的模型。",
    "{0} is not a JSON object.": "{0} 不是 JSON 对象。",
    "{0} is no checkpoint: it has no {1}.": "{0} 不是检查点：没有 {1}。",
    "Name a folder in the layout of the model hubs.": "请指定一个按模型站布局的文件夹。",
    # hubs
    "{0} MB are to come, and the disk of {1} has {2} MB free.": "还需下载 {0} MB，而 {1} 所在磁盘只剩 {2} MB。",
    "Make room, or put the cache on another disk with HF_HOME or MODELSCOPE_CACHE.": (
        "请腾出空间，或用 HF_HOME 或 MODELSCOPE_CACHE 把缓存放到其他磁盘。"
    ),
    "{0} cannot be reached: {1}.": "无法连接 {0}：{1}。",
    "Run it again when the network is back; what came is kept.": "网络恢复后请再试；已下载的内容会保留。",
    "{0} did not deliver {1}: {2}.": "{0} 未能送达 {1}：{2}。",
    "Run it again later; what came is kept and goes on from there.": "请稍后再试；已下载的内容会保留，并从那里继续。",
    "{0} comes from {1} with other bytes than it lists.": "{1} 送来的 {0} 与其列出的内容不符。",
    "Try the other hub with --hub, or report it there; the other files are kept.": (
        "请在 F10 中按 s 换另一模型站，或向其报告；其余文件会保留。"
    ),
    "{0} has no repository {1}{2}.": "{0} 没有仓库 {1}{2}。",
    ", or it is private": "，或它是私有的",
    "Check the name; if it is private, {0}.": "请检查名称；若是私有仓库，{0}。",
    "Check the name.": "请检查名称。",
    "log in with `hf auth login` (or set HF_TOKEN)": "请用 hf auth login 登录（或设置 HF_TOKEN）",
    "log in with `ms login` (or set MODELSCOPE_API_TOKEN)": "请用 ms login 登录（或设置 MODELSCOPE_API_TOKEN）",
    "{0} gives {1} only to people who have accepted its conditions.": "{0} 只向已接受条件的人提供 {1}。",
    "Accept them on {0}, then {1}.": "请在 {0} 接受条件，然后{1}。",
    "{0} does not give {1} to this account yet.": "{0} 尚未向此账户提供 {1}。",
    "Accept its conditions on {0}, then run it again.": "请在 {0} 接受其条件，然后再试。",
    "{0} does not accept the token for {1}.": "{0} 不接受用于 {1} 的令牌。",
    "Take a valid one with read access: {0}.": "请使用有读取权限的有效令牌：{0}。",
    "{0} cannot be asked for: vlmchat is offline.": "无法查询 {0}：vlmchat 处于离线状态。",
    "Leave --offline and HF_HUB_OFFLINE away.": "请去掉 --offline 和 HF_HUB_OFFLINE。",
    "{0} cannot be written: {1}.": "{0} 无法写入：{1}。",
    "Mend that; what came is kept.": "请先解决此问题；已下载的内容会保留。",
    "{0} has no revision {1} on {2}.": "{0} 在 {2} 上没有修订 {1}。",
    "Check what stands behind the @.": "请检查 @ 之后的内容。",
    "The disk of {0} is full.": "{0} 所在磁盘已满。",
    "Make room and run it again: what came is kept and goes on from there.": (
        "请腾出空间后再试：已下载的内容会保留，并从那里继续。"
    ),
    "{0} may not be written: {1}.": "没有写入 {0} 的权限：{1}。",
    "Give it to this user, or name another folder with HF_HOME or MODELSCOPE_CACHE.": (
        "请把它交给当前用户，或用 HF_HOME 或 MODELSCOPE_CACHE 指定其他文件夹。"
    ),
    "{0} is no name that a hub could have.": "{0} 不是模型站上可能有的名称。",
    "Write it as OWNER/NAME[@revision].": "请写成 OWNER/NAME[@修订]。",
    "{0} is no revision.": "{0} 不是修订。",
    "Name a branch, a tag or a commit.": "请指定分支、标签或提交。",
    "{0} holds no weights that vlmchat reads.": "{0} 没有 vlmchat 能读取的权重。",
    "It reads safetensors and .bin files.": "它读取 safetensors 和 .bin 文件。",
    "its name cannot be resolved (is there a network?)": "无法解析其名称（有网络吗？）",
    "the proxy did not let it through": "代理未放行",
    "its certificate was not accepted (is this machine's clock right?)": "其证书未被接受（本机时钟正确吗？）",
    "no connection in time": "连接超时",
    "no byte in time": "接收超时",
    "connection refused": "连接被拒绝",
    "connection reset": "连接被重置",
    "redirected in a circle": "循环重定向",
    "connection closed early": "连接过早关闭",
    "connection lost": "连接中断",
    "only {0} kB/s": "只有 {0} kB/s",
    "it does not give the file": "它不提供该文件",
    "its answer cannot be understood": "无法理解其应答",
    "status {0}": "状态 {0}",
    "{0} has another size than listed": "{0} 的大小与所列不符",
    "the file has another size than listed": "文件大小与所列不符",
    "another range came than was asked for": "送来的区段与请求不符",
    "the answer has another size than the file": "应答大小与文件不符",
}
