"""Chinese."""

from __future__ import annotations

from calm_jax.qa import language

ROW = language.Language(
    code='zh',
    name='Chinese',
    native='中文',
    question='问题',
    explanation='解释',
    answer='答案',
    colon='：',
    wording=language.Wording(
        instruction=(
            '请用中文回答下面的选择题。先用一到三句话简要说明哪个选项最合适'
            '以及原因，然后只给出一个答案：{letters}。请使用以下格式：'
        ),
        your_explanation='<你的解释>',
        letter_and_option='<字母>. <选项内容>',
        passages='以下资料可能有帮助，也可能不完整、不相关或有误：',
        comma='、',
        last_comma=' 或 ',
    ),
    vocabulary=language.Vocabulary(
        answer=(
            '答案',
            '回答',
            '解答',
            '答',
            '正确选项',
            '正确的选项',
            '正確選項',
            '正確的選項',
            '最佳选项',
            '最合适的选项',
            '正确的',
        ),
        explanation=(
            '解释',
            '解釋',
            '解析',
            '说明',
            '說明',
            '理由',
            '原因',
            '分析',
            '推理',
        ),
        question=('问题', '問題', '题目', '題目'),
        copula=('是', '为', '為', '应该是', '应为', '应是', '就是', '選', '选'),
        lead=('选项', '選項', '选择', '選擇', '选', '選'),
        join=('和', '或', '或者', '与', '及', '以及', '到', '至'),
        right=('正确', '正確', '最合适', '最合適', '最佳', '对的'),
        no=('不是', '不', '没有', '沒有', '无', '非', '除'),
        choose=('选', '選', '选择', '選擇'),
    ),
    shots=(
        language.Shot(
            stem='下面哪样东西可以让食物保持低温？',
            gold='冰箱',
            others=('烤箱', '浴缸', '衣柜', '台灯'),
            explanation='冰箱能让里面的东西降温，使食物保持新鲜。',
        ),
        language.Shot(
            stem='下面哪种交通工具在铁轨上行驶？',
            gold='火车',
            others=('轮船', '自行车', '直升机', '拖拉机'),
            explanation='火车有钢制的车轮，沿着两条铁轨前进。',
        ),
        language.Shot(
            stem='哪种乐器有黑白两色的琴键？',
            gold='钢琴',
            others=('鼓', '小提琴', '小号', '长笛'),
            explanation='演奏钢琴时要按下琴键，琴键有白色的，也有黑色的。',
        ),
    ),
    codes=language.Codes(
        google='zh-CN',
        nllb='zho_Hans',
        opus=('cmn_Hans', 'zho_Hans', 'cmn', 'zho', 'zh'),
        apertium=(),
    ),
    spaced=False,
)
